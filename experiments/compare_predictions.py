"""Compare two prediction files: differences, intervals and p-values; see conf/compare_predictions.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.predictions import compare_predictions


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare_predictions")
def main(config: DictConfig) -> None:
    run_door(compare_predictions, config)


if __name__ == "__main__":
    start(main)
