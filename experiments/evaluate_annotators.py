"""Measure annotators against gold names and for KorQuAD; see conf/evaluate_annotators.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.annotators import evaluate_annotators


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate_annotators")
def main(config: DictConfig) -> None:
    run_door(evaluate_annotators, config)


if __name__ == "__main__":
    start(main)
