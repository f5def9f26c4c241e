"""Hydra writes the command line into the run's folder before a door begins: what must not stand there ends it first."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from korbert.config.mistakes import Guard
from korbert.config.overrides import as_typed
from korbert.redaction import refuse_secrets


class NoSecrets(Guard):
    """Ends a door whose overrides have a secret in them."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Of one run."""
        overrides = config.hydra.overrides
        refuse_secrets([*as_typed(overrides.task), *as_typed(overrides.hydra)])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Of a sweep."""
        self.on_run_start(config)
