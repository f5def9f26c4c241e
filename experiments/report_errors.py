"""Break the errors of a model down; see conf/report_errors.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.predictions import report_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="report_errors")
def main(config: DictConfig) -> None:
    run_door(report_errors, config)


if __name__ == "__main__":
    start(main)
