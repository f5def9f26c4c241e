"""Searches over settings: refused where they would look for the worst, with a word where they look at the test."""

from __future__ import annotations

import re
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from korbert.config.mistakes import Guard
from korbert.config.overrides import as_typed, key_of
from korbert.config.sweeping import swept_params
from korbert.errors import ConfigError

_SHARE = "task.validation_share"
# Commands whose jobs return a score on questions, see `korbert.study.results.main_score`.
_ANSWERING = ("finetune_korquad", "pipeline", "predict_korquad", "lexical_baseline")


class SearchCheck(Guard):
    """Looks at a sweep that has a direction, such as Optuna's, before its first job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Raise ConfigError for the wrong direction, and print a word where the test questions would choose."""
        direction = OmegaConf.select(config, "hydra.sweeper.direction")
        if direction is None or OmegaConf.is_list(direction):
            return
        command = str(config.hydra.job.name)
        is_loss = command == "pretrain" or (command == "pipeline" and OmegaConf.select(config, "until") is not None)
        wanted = "minimize" if is_loss else "maximize"
        given = str(getattr(direction, "name", direction)).lower()
        if given != wanted:
            what = "the held-out loss, of which less is better" if is_loss else "a score, of which more is better"
            raise ConfigError(
                f"hydra.sweeper.direction={given}: a job of {command} returns {what}; this search would look for the "
                f"worst settings: give hydra.sweeper.direction={wanted}"
            )
        if not is_loss and command in _ANSWERING and not _holds_out(config, command):
            remedy = {"finetune_korquad": f": give {_SHARE}=0.1", "pipeline": f": add '{_SHARE}=0.1' to finetuning"}
            print(
                "warning: this search looks at F1 on the test questions, so that the best score is no test of the "
                f"settings any more{remedy.get(command, '')}", file=sys.stderr,
            )  # fmt: skip


def _holds_out(config: DictConfig, command: str) -> bool:
    """Whether the jobs are told how many validation questions to keep apart, by which they are scored then."""
    told = [*as_typed(config.hydra.overrides.task), *(f"{key}={value}" for key, value in swept_params(config).items())]
    if command == "pipeline":
        told = [*map(str, config.get("finetuning") or ()), *(one for one in told if key_of(one) == "finetuning")]
    shares = re.findall(rf"{re.escape(_SHARE)}=([^\s,'\"\]]+)", " ".join(told))
    return any(share.strip("0.") for share in shares) or bool(OmegaConf.select(config, _SHARE))
