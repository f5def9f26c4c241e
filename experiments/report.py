"""Make tables, plots and a page of finished runs; see conf/report.yaml."""

import sys

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.records import with_conditions
from korbert.tasks.report import make_report


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(config: DictConfig) -> None:
    run_door(make_report, config)


if __name__ == "__main__":
    sys.argv[1:] = with_conditions(sys.argv[1:])
    start(main)
