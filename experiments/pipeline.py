"""Tokenizer, corpus, pretraining, fine-tuning and score in one run, for sweeps; see conf/pipeline.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.pipeline import run_pipeline


@hydra.main(version_base="1.3", config_path="../conf", config_name="pipeline")
def main(config: DictConfig) -> float | None:
    return run_door(run_pipeline, config)


if __name__ == "__main__":
    start(main)
