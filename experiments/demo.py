"""A local web page to play with trained models; see conf/demo.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.demo import demo


@hydra.main(version_base="1.3", config_path="../conf", config_name="demo")
def main(config: DictConfig) -> None:
    run_door(demo, config)


if __name__ == "__main__":
    start(main)
