"""Pretrain an entity-aware BERT; see conf/pretrain.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.pretrain import pretrain


@hydra.main(version_base="1.3", config_path="../conf", config_name="pretrain")
def main(config: DictConfig) -> float | None:
    return run_door(pretrain, config)


if __name__ == "__main__":
    start(main)
