"""The whole path on the bundled sample; see conf/quickstart.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.quickstart import quickstart


@hydra.main(version_base="1.3", config_path="../conf", config_name="quickstart")
def main(config: DictConfig) -> None:
    run_door(quickstart, config)


if __name__ == "__main__":
    start(main)
