"""The entity-aware BERT encoder and its heads; imports torch and itself only."""

from korbert.model.config import ModelConfig
from korbert.model.electra import ReplacedTokenModel
from korbert.model.encoder import Encoder, EncoderModel
from korbert.model.heads import PretrainingModel
from korbert.model.layout import Layout, Packed, Padded
from korbert.model.span import SpanModel
from korbert.model.tagger import TaggerModel
from korbert.model.targets import IGNORE_INDEX

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
