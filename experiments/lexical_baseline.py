"""Score a baseline that learns nothing; see conf/lexical_baseline.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.baseline import lexical_baseline


@hydra.main(version_base="1.3", config_path="../conf", config_name="lexical_baseline")
def main(config: DictConfig) -> float | None:
    return run_door(lexical_baseline, config)


if __name__ == "__main__":
    start(main)
