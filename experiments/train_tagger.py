"""Train a tagger for named entities and score it; see conf/train_tagger.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.tagging import train_tagger


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_tagger")
def main(config: DictConfig) -> float | None:
    return run_door(train_tagger, config)


if __name__ == "__main__":
    start(main)
