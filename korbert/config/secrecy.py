"""Hydra writes the command line into the run's folder before a door begins: what must not stand there ends it first."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from korbert.errors import ConfigError
from korbert.redaction import refuse_secrets


class NoSecrets(Callback):
    """Ends a door whose overrides have a secret in them."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Of one run."""
        overrides = config.hydra.overrides
        try:
            refuse_secrets([*overrides.task, *overrides.hydra])
        except ConfigError as error:  # Hydra makes warnings of a callback's errors
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Of a sweep."""
        self.on_run_start(config)
