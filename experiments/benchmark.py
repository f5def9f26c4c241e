"""Measure the speed of training steps beside Hugging Face's; see conf/benchmark.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.benchmark import benchmark


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
def main(config: DictConfig) -> None:
    run_door(benchmark, config)


if __name__ == "__main__":
    start(main)
