"""The entity study for a GPU machine, `gpu_study.py prepare` and `gpu_study.py run`; see conf/gpu_study.yaml."""

import sys

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.gpu_study import gpu_study


@hydra.main(version_base="1.3", config_path="../conf", config_name="gpu_study")
def main(config: DictConfig) -> None:
    run_door(gpu_study, config)


if __name__ == "__main__":
    sys.argv[1:] = [f"stage={word}" if word in ("prepare", "run") else word for word in sys.argv[1:]]
    start(main)
