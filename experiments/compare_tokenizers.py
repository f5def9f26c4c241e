"""Compare tokenizers on KorQuAD and on text; see conf/compare_tokenizers.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.compare import compare_tokenizers


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare_tokenizers")
def main(config: DictConfig) -> None:
    run_door(compare_tokenizers, config)


if __name__ == "__main__":
    start(main)
