"""Answer a question file with a fine-tuned model and score it; see conf/predict_korquad.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.answering import predict_korquad


@hydra.main(version_base="1.3", config_path="../conf", config_name="predict_korquad")
def main(config: DictConfig) -> float | None:
    return run_door(predict_korquad, config)


if __name__ == "__main__":
    start(main)
