"""What a fine-tuning begins with: a pretraining run, or random weights and a tokenizer."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from korbert.config import FromPretrained, refuse_place_of_init
from korbert.errors import ConfigError
from korbert.files import HUGGING_FACE
from korbert.model import ModelConfig, SpanModel, TaggerModel
from korbert.tasks.importing import import_model
from korbert.training.bundle import Bundle, copy_shared, load_bundle
from korbert.training.runtime import Runtime, compile_layers

log = logging.getLogger(__name__)


def starting_point(config: FromPretrained) -> tuple[Bundle | None, Path]:
    """The pretrained model, if any, and the tokenizer's folder.

    Raises ConfigError where `init` and what it decides are both given, or neither, or it lies where the run is made.
    """
    refuse_place_of_init(config.run_dir, config.init)  # a door has done that; here it is for what other tasks start
    if config.init is not None:
        for key in ("model", "tokenizer_path"):
            if getattr(config, key) is not None:
                raise ConfigError(f"{key} is decided by init={config.init}: give one of the two")
        init = config.init
        if init.startswith(HUGGING_FACE):
            init = str(import_model(init.removeprefix(HUGGING_FACE), Path(config.data.cache)))
        pretrained = load_bundle(init, kind=("pretraining", "encoder"))
        return pretrained, pretrained.folder / "tokenizer"
    if config.model is None or config.tokenizer_path is None:
        raise ConfigError(
            "give init=RUN (a pretraining run's folder) or init=hf:NAME (a model of Hugging Face's); or, to start "
            "from random weights, model=SIZE and tokenizer_path=FOLDER"
        )
    return None, Path(config.tokenizer_path)


def model_sizes(
    config: FromPretrained, pretrained: Bundle | None, vocab_size: int, entity_types: int | None = None
) -> ModelConfig:
    """The pretrained model's sizes, or those of `config.model`, with another dropout where one is given.

    entity_types: how many the entity table has at least.
    """
    if pretrained is None:
        assert config.model is not None
        sizes = config.model.model_config(vocab_size, entity_types or 1)
    else:
        sizes = pretrained.description.model
        sizes = replace(sizes, entity_types=max(sizes.entity_types, entity_types or 1))
    if config.dropout is None:
        return sizes
    try:
        return replace(sizes, hidden_dropout=config.dropout)
    except ValueError as error:
        raise ConfigError(f"dropout={config.dropout}: {error}") from None


def take_over(
    model: SpanModel | TaggerModel, pretrained: Bundle | None, runtime: Runtime, key: str, max_length: int
) -> None:
    """Give a new model the weights of the pretrained one, if any, and compile it where the runtime says so.

    A warning where it will read positions that no pretraining has reached, whose embeddings are what they began as.
    Raises ConfigError where sequences of `max_length` tokens, which is the setting `key`, are longer than it can read.
    """
    if max_length > model.config.max_positions:
        raise ConfigError(f"{key}={max_length} is more than the model's {model.config.max_positions} positions")
    if pretrained is not None:
        copy_shared(pretrained.model, model)
        reached = pretrained.description.max_length
        if model.config.positions == "learned" and reached < max_length:
            log.warning(
                "%s=%d: the pretraining had sequences of up to %d tokens, positions behind are untrained: pretrain "
                "with task.max_length=%d or, for a part of the steps, task.curriculum; or with model.positions=rotary",
                key, max_length, reached, max_length,
            )  # fmt: skip
    compile_layers(model, runtime)
