"""Download KorQuAD 1.0, or check a data folder; see conf/prepare_data.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.data import prepare_data


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare_data")
def main(config: DictConfig) -> None:
    run_door(prepare_data, config)


if __name__ == "__main__":
    start(main)
