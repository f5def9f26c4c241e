"""Fine-tune on KorQuAD 1.0 and score; see conf/finetune_korquad.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.finetune import finetune_korquad


@hydra.main(version_base="1.3", config_path="../conf", config_name="finetune_korquad")
def main(config: DictConfig) -> float | None:
    return run_door(finetune_korquad, config)


if __name__ == "__main__":
    start(main)
