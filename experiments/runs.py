"""List, compare and export what was run; see conf/runs.yaml."""

import sys

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.records import as_overrides, look_at_runs


@hydra.main(version_base="1.3", config_path="../conf", config_name="runs")
def main(config: DictConfig) -> None:
    run_door(look_at_runs, config)


if __name__ == "__main__":
    sys.argv[1:] = as_overrides(sys.argv[1:])
    start(main)
