"""Score a prediction file with the official metric; see conf/evaluate_korquad.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.evaluate import evaluate_korquad


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate_korquad")
def main(config: DictConfig) -> None:
    run_door(evaluate_korquad, config)


if __name__ == "__main__":
    start(main)
