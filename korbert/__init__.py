"""korbert: Korean, entity-aware BERT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from korbert.api import load


def __getattr__(name: str) -> Any:
    # Importing a tokenizer must not import torch.
    if name == "load":
        from korbert.api import load

        return load
    raise AttributeError(f"module 'korbert' has no attribute {name!r}")
