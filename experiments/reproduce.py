"""Published KorQuAD scores beside those of korbert's runs; see conf/reproduce.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.reproduce import reproduce


@hydra.main(version_base="1.3", config_path="../conf", config_name="reproduce")
def main(config: DictConfig) -> None:
    run_door(reproduce, config)


if __name__ == "__main__":
    start(main)
