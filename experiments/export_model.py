"""Write a model as transformers loads it; see conf/export_model.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.exporting import export_model


@hydra.main(version_base="1.3", config_path="../conf", config_name="export_model")
def main(config: DictConfig) -> None:
    run_door(export_model, config)


if __name__ == "__main__":
    start(main)
