"""Find the entities of a corpus; see conf/annotate_corpus.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.annotate import annotate_corpus


@hydra.main(version_base="1.3", config_path="../conf", config_name="annotate_corpus")
def main(config: DictConfig) -> None:
    run_door(annotate_corpus, config)


if __name__ == "__main__":
    start(main)
