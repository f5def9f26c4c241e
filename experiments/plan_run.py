"""Say what a pretraining will take, from what measured ones took; see conf/plan_run.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.plan import plan_run


@hydra.main(version_base="1.3", config_path="../conf", config_name="plan_run")
def main(config: DictConfig) -> None:
    run_door(plan_run, config)


if __name__ == "__main__":
    start(main)
