"""Train a tokenizer and keep it; see conf/train_tokenizer.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.prepare import train_tokenizer_folder


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_tokenizer")
def main(config: DictConfig) -> None:
    run_door(train_tokenizer_folder, config)


if __name__ == "__main__":
    start(main)
