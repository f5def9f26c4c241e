"""The entity-aware BERT encoder and its heads; imports torch and itself (and errors), torch where a model is wanted."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from korbert.model.config import ModelConfig
from korbert.model.targets import IGNORE_INDEX

if TYPE_CHECKING:
    from korbert.model.electra import ReplacedTokenModel
    from korbert.model.encoder import Encoder, EncoderModel
    from korbert.model.heads import PretrainingModel
    from korbert.model.layout import Layout, Packed, Padded
    from korbert.model.span import SpanModel
    from korbert.model.tagger import TaggerModel

__all__ = [
    "IGNORE_INDEX",
    "Encoder",
    "EncoderModel",
    "Layout",
    "ModelConfig",
    "Packed",
    "Padded",
    "PretrainingModel",
    "ReplacedTokenModel",
    "SpanModel",
    "TaggerModel",
]
_MODULES = {
    "Encoder": "encoder",
    "EncoderModel": "encoder",
    "Layout": "layout",
    "Packed": "layout",
    "Padded": "layout",
    "PretrainingModel": "heads",
    "ReplacedTokenModel": "electra",
    "SpanModel": "span",
    "TaggerModel": "tagger",
}


def __getattr__(name: str) -> Any:
    # Configurations know a model's sizes, and must not import torch for them.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
