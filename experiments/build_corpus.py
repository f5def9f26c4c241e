"""Turn documents into token shards, filtered, by many processes and jobs; see conf/build_corpus.yaml."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="../conf", config_name="build_corpus")
def main(config: DictConfig) -> None:
    from korbert.config import run_door
    from korbert.tasks.build_corpus import build_corpus

    run_door(build_corpus, config)


if __name__ == "__main__":
    # Not above: worker processes import this file, and have no use for torch, which takes them seconds and 200 MB.
    from korbert.config import start  # which also registers the schemas of conf/

    start(main)
