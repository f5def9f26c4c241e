"""The page to play with: load what it shows, and serve it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from korbert.api import Reader, load
from korbert.config import DemoConfig, expand_root, expand_roots
from korbert.demo import Cutter, DemoServer, Limits, Playground, open_server, read_examples
from korbert.encoding import EntityInput, EntityMode
from korbert.entities import make_annotator
from korbert.errors import ConfigError, KorbertError
from korbert.files import RECORD
from korbert.model import PretrainingModel, SpanModel
from korbert.tasks.prepare import is_path, named_tokenizer, prepare_tokenizer
from korbert.tokenizers import load_tokenizer
from korbert.training.bundle import task_of

log = logging.getLogger(__name__)


def demo(config: DemoConfig) -> None:
    """Serve the page until Ctrl-C."""
    with prepare_demo(config) as server:
        if not server.is_local:
            log.warning("warning: host=%s lets other machines in, and there is no password", config.host)
        print(f"korbert demo: {server.url}  (Ctrl-C ends it)", flush=True)
        server.run()


def prepare_demo(config: DemoConfig) -> DemoServer:
    """The server, listening already.

    Raises KorbertError for a run that is missing or of the wrong kind, a file that cannot be used, a taken port.
    """
    for run in (*config.runs, *([] if config.pretrain is None else [config.pretrain])):
        if not any((Path(run) / inner).exists() for inner in ("model/model.json", "model.json", RECORD)):
            raise ConfigError(
                f"{run} holds no trained model: run `make quickstart` first, or give runs=[RUN,RUN] of your own "
                "(fine-tuned) and pretrain=RUN (pretraining; null: none)"
            )
    readers = _readers(config)
    masked = None if config.pretrain is None else load(config.pretrain, config.device, config.data.root)
    if masked is not None and not isinstance(masked.bundle.model, PretrainingModel):
        raise ConfigError(f"pretrain={config.pretrain}: wanted a pretraining run with a masked language model")
    cutters = [*_cutters_of(readers), *_other_cutters(config)]
    if not cutters:
        raise ConfigError("runs and tokenizers: both are empty, there is nothing to show")
    playground = Playground(
        readers,
        cutters,
        make_annotator(expand_root(config.annotator, config.data), cache=config.data.cache),
        config.annotator,
        masked,
        read_examples([Path(path) for path in expand_roots(config.examples, config.data)], _trained_on(config)),
        config.masked_examples,
        Limits(**asdict(config.limits)),
    )
    return open_server(playground, config.host, config.port)


def _readers(config: DemoConfig) -> dict[str, Reader]:
    names = [Path(run).name for run in config.runs]
    if len(set(names)) < len(names):
        names = list(config.runs)
    readers = {}
    for name, run in zip(names, config.runs, strict=True):
        readers[name] = load(run, config.device, config.data.root)
        if not isinstance(readers[name].bundle.model, SpanModel):
            raise ConfigError(f"runs: {run} was not fine-tuned for questions; a pretraining run is for pretrain=RUN")
    return readers


def _cutters_of(readers: Mapping[str, Reader]) -> Iterator[Cutter]:
    """The models' tokenizers with their entities, each once."""
    seen = set()
    for name, reader in readers.items():
        entities, tokenizer = reader.bundle.description.entities, reader.bundle.tokenizer
        annotator = reader.annotator.fingerprint if entities.mode.cuts else "none"
        key = (tokenizer.fingerprint, entities.mode.cuts, entities.mode.has_markers, annotator)
        if key not in seen:
            seen.add(key)
            yield Cutter(name, tokenizer, entities, reader.annotator)


def _other_cutters(config: DemoConfig) -> Iterator[Cutter]:
    """The tokenizers of `tokenizers`; one that cannot be had, for want of a package, say, is named and left out."""
    for name in config.tokenizers:
        try:
            folder = prepare_tokenizer(named_tokenizer(name), config.corpus, config.data)
            tokenizer = load_tokenizer(folder)
        except KorbertError as error:
            log.warning("tokenizers: %s is left out: %s", name, error)
            continue
        yield Cutter(Path(name).name if is_path(name) else name, tokenizer, EntityInput.of(EntityMode.NONE))


def _trained_on(config: DemoConfig) -> Sequence[Path]:
    """The question files that every one of the runs was trained on, whole."""
    found: list[set[Path]] = []
    for run in config.runs:
        files = expand_roots(task_of(Path(run)).get("train", []), config.data)
        found.append({Path(file).resolve() for file in files})
    return sorted(set.intersection(*found)) if found else []
