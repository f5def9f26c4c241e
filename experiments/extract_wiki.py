"""Read a MediaWiki dump as a corpus with entities; see conf/extract_wiki.yaml."""

import hydra
from omegaconf import DictConfig

from korbert.config import run_door, start
from korbert.tasks.wiki import extract_wiki


@hydra.main(version_base="1.3", config_path="../conf", config_name="extract_wiki")
def main(config: DictConfig) -> None:
    run_door(extract_wiki, config)


if __name__ == "__main__":
    start(main)
