"""Put finished runs on a page of experiments/results/; see conf/publish_results.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.publish import publish_results


@hydra.main(version_base="1.3", config_path="../conf", config_name="publish_results")
def main(config: DictConfig) -> None:
    run_door(publish_results, config)


if __name__ == "__main__":
    start(main)
