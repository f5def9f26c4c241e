"""What training needs beforehand: a tokenizer and token shards, made once and kept in the cache by fingerprint."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from korbert.config import (
    CorpusConfig,
    DataConfig,
    EntitiesConfig,
    NormalizerConfig,
    TokenizerConfig,
    TrainTokenizerConfig,
    compose_config,
    expand_root,
    expand_roots,
)
from korbert.data.corpus import expand_paths, read_documents
from korbert.data.document_encoder import RecordAnnotator
from korbert.data.shardfiles import MANIFEST
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.units import units_identity
from korbert.data.wikidump import reading_rules
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError, KorbertError, check_known
from korbert.files import (
    checksum,
    digest,
    exclusive,
    read_json,
    read_sealed_json,
    remove_leftovers,
    write_json_atomically,
    write_sealed_json,
)
from korbert.morphology import ANALYSERS
from korbert.parallel import own_place
from korbert.text import NORMALISATION, Normalizer
from korbert.tokenizers import (
    KINDS,
    Pretokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    is_own_folder,
    load_tokenizer,
    open_published,
)
from korbert.tokenizers.trained import TrainedTokenizer
from korbert.training.interrupt import ended_at_once

PUBLISHED = "published"
_COST = "cost.json"  # of training, in a tokenizer's folder
_LONGEST_NAME = 40  # of an annotator, in the name of a folder
log = logging.getLogger(__name__)


def corpus_files(corpus: CorpusConfig, data: DataConfig) -> list[Path]:
    """The corpus's files. Raises DataError for a name or pattern without a file, ConfigError where there is none."""
    if not corpus.files:
        raise ConfigError("corpus.files: wanted one or more files, or corpus.shards")
    return expand_paths(expand_roots(corpus.files, data))


def corpus_identity(files: list[Path], cache: Path) -> list[list[str]]:
    """Name and SHA-256 of each file: what a cached result was made from, wherever the file lies and however old it is.

    Checksums are kept in `cache` for as long as size and times stay, so that a large corpus is not read at every start;
    the time of change, too, which no copy that keeps the time of modification takes over.
    """
    store = cache / "checksums.json"
    known: dict[str, Any] = {}
    try:
        known = read_sealed_json(store) if store.exists() else {}
    except DataError as error:
        log.warning("%s; it is made again", error)
    identity, seen = [], dict(known)
    for path in files:
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = known.get(str(path.resolve()))
        if entry is None or entry[:-1] != state:
            entry = [*state, checksum(path)]
        seen[str(path.resolve())] = entry
        identity.append([path.name, entry[-1]])
    if seen != known:
        write_sealed_json(store, seen)
    return identity


def is_path(name: str) -> bool:
    """Whether a tokenizer's name is the path of a trained or a published one, not that of a strategy."""
    return "/" in name or Path(name).suffix in (".txt", ".json", ".model")


def named_tokenizer(name: str) -> TokenizerConfig:
    """What NAME@SIZE means, a file of conf/tokenizer and a vocabulary size, or a path. Raises ConfigError otherwise."""
    if is_path(name):
        return TokenizerConfig(kind="given" if is_own_folder(Path(name)) else PUBLISHED, path=name)
    strategy, _, size = name.partition("@")
    if not size.isdecimal():
        raise ConfigError(f"tokenizers: {name!r}: wanted NAME@SIZE, a name of conf/tokenizer and a number")
    overrides = [f"tokenizer={strategy}", f"tokenizer.vocab_size={size}"]
    return compose_config("train_tokenizer", overrides).tokenizer


def prepare_tokenizer(config: TokenizerConfig, corpus: CorpusConfig, data: DataConfig) -> Path:
    """Return the folder of the tokenizer that `config` names, training it on the corpus if it is not in the cache."""
    if config.kind == PUBLISHED:
        return _published_tokenizer(config, data)
    if config.path is not None:
        tokenizer = load_tokenizer(config.path)
        log.info("tokenizer: %s, %s of %d entries, as it is", config.path, tokenizer.kind, len(tokenizer))
        return Path(config.path)
    check_known("tokenizer.kind", config.kind, (*_trained(), PUBLISHED))
    files = corpus_files(corpus, data)
    described = {key: value for key, value in asdict(config).items() if key != "path"}
    described["split"] = Pretokenizer(config.split).split  # the analyser that "mecab" is here
    if config.symbols == "bytes":
        described["training"] = 2  # what was trained before cut bytes at the borders of their signs' scripts
    if corpus.max_documents is not None:
        described["documents"] = "in all"  # of each file in what was trained before
    described |= reading_rules(files)
    key = digest([described, corpus_identity(files, Path(data.cache)), corpus.max_documents, NORMALISATION])
    folder = Path(data.cache) / "tokenizers" / f"{config.kind}-{config.vocab_size}-{key}"
    with _to_make(folder / "tokenizer.json", data) as absent:
        if absent:
            log.info("training the tokenizer %s on %d corpus files", folder.name, len(files))
            texts = _paragraphs(files, corpus.max_documents, config.train_characters)
            began = time.perf_counter()
            with ended_at_once():
                tokenizer = train_tokenizer(config, texts)
            seconds = round(time.perf_counter() - began, 1)
            tokenizer.save(folder)
            # Not in the tokenizer's own files, which are the same whenever it is trained.
            write_json_atomically(folder / _COST, {"seconds": seconds})
    log.info("tokenizer: %s", folder)
    return folder


def training_of(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """How a tokenizer was trained, and how long it took, where its folder says so."""
    return {**tokenizer.training, **(read_json(folder / _COST) if (folder / _COST).exists() else {})}


@contextlib.contextmanager
def _to_make(path: Path, data: DataConfig) -> Iterator[bool]:
    """Whether `path` is absent; its lock is held then, so that of several processes that want it one makes it."""
    if path.exists():
        yield False
    else:
        with exclusive(Path(data.cache) / "locks" / f"{path.parent.name}.lock", path.parent):
            remove_leftovers(path.parent)
            yield not path.exists()


def _published_tokenizer(config: TokenizerConfig, data: DataConfig) -> Path:
    """Bring a tokenizer that others trained into the cache."""
    if config.path is None:
        raise ConfigError(f"tokenizer.path: tokenizer={PUBLISHED} needs the path of what was published")
    lowercase = config.normalizer.lowercase
    plain = asdict(TokenizerConfig(config.kind, config.path, normalizer=NormalizerConfig(lowercase=lowercase)))
    if changed := [f"tokenizer.{key}={value}" for key, value in asdict(config).items() if value != plain[key]]:
        raise ConfigError(f"{', '.join(changed)}: of no use, tokenizer={PUBLISHED} is taken as it was published")
    tokenizer = open_published(Path(config.path), lowercase)
    folder = Path(data.cache) / "tokenizers" / f"{PUBLISHED}-{len(tokenizer)}-{tokenizer.fingerprint}"
    with _to_make(folder / "tokenizer.json", data) as absent:
        if absent:
            tokenizer.save(folder)
    log.info("tokenizer: %s, from %s", folder, config.path)
    return folder


def _trained() -> dict[str, type[TrainedTokenizer]]:
    return {kind: cls for kind, cls in KINDS.items() if issubclass(cls, TrainedTokenizer)}


def train_tokenizer(config: TokenizerConfig, texts: Iterator[str]) -> Tokenizer:
    """Train the kind of tokenizer that `config` names.

    Raises ConfigError for an unknown kind, and for settings that are of another one.
    """
    check_known("tokenizer.kind", config.kind, (*_trained(),))
    learns_symbols = config.kind in (WordPieceTokenizer.kind, SentencePieceTokenizer.kind)
    has_coverage = learns_symbols and config.symbols != "bytes"
    if not has_coverage and config.character_coverage != TokenizerConfig.character_coverage:
        raise ConfigError(
            f"tokenizer.character_coverage={config.character_coverage}: of subwords that are made of characters alone, "
            f"not of {config.kind} with tokenizer.symbols={config.symbols}"
        )
    if config.kind != SentencePieceTokenizer.kind:
        for key in ("model_type", "byte_fallback"):
            if setting := getattr(config, key):
                owner = SentencePieceTokenizer.kind
                raise ConfigError(f"tokenizer.{key}={str(setting).lower()}: of {owner} alone, not of {config.kind}")
    options: dict[str, Any] = {
        "normalizer": Normalizer(**asdict(config.normalizer)),
        "pretokenizer": Pretokenizer(config.split, config.tags, config.symbols),
    }
    if learns_symbols:
        options["character_coverage"] = config.character_coverage
    if config.kind == SentencePieceTokenizer.kind:
        options |= {"model_type": config.model_type or "unigram", "byte_fallback": config.byte_fallback}
    return _trained()[config.kind].train(texts, config.vocab_size, **options)


def _paragraphs(files: list[Path], max_documents: int | None, max_characters: int) -> Iterator[str]:
    """Paragraphs for tokenizer training: as many characters of each file, from its beginning.

    max_documents: of all files together, as in the corpus, which is then read in order until it has enough.
    """
    parts: list[Iterator[list[str]]] = [read_documents(path) for path in files]
    if max_documents is not None:
        parts = [itertools.islice(itertools.chain.from_iterable(parts), max_documents)]
    for part in parts:
        left = max(1, max_characters // len(parts))
        for paragraph in itertools.chain.from_iterable(part):
            yield paragraph[:left]
            left -= len(paragraph)
            if left <= 0:
                break


def check_annotator(entities: EntitiesConfig, corpus: CorpusConfig, data: DataConfig) -> None:
    """Raise ConfigError or DataError for an annotator that `prepare_shards` could not make, before other work."""
    if corpus.shards is None:
        make_annotator(expand_root(entities.annotator, data), cache=Path(data.cache))


def prepare_shards(
    tokenizer_folder: Path,
    entities: EntitiesConfig,
    corpus: CorpusConfig,
    data: DataConfig,
    workers: int,
    units: str = "",
) -> ShardedCorpus:
    """Return the corpus as token shards, building them if they are not in the cache.

    units: what is flagged for masking, see `build_shards`. Raises ConfigError for shards made beforehand that are not
    as `entities` wants them.
    """
    given = entities.entity_input()
    cut = given.mode.cuts
    tokenizer = load_tokenizer(tokenizer_folder)
    if corpus.shards is not None:
        if corpus.max_documents is not None:
            log.warning("corpus.max_documents=%d: not used, corpus.shards is read whole", corpus.max_documents)
        return _given_shards(Path(corpus.shards), entities, tokenizer, data)
    files = corpus_files(corpus, data)
    cache = Path(data.cache)
    annotator_name = expand_root(entities.annotator, data)
    annotator = make_annotator(annotator_name, cache=cache)
    contents = corpus_identity(files, Path(data.cache))
    identity = [contents, corpus.max_documents, tokenizer.identity, annotator.fingerprint, NORMALISATION]
    # Older shards, without types or units, still serve where neither is wanted.
    wanted = ["whole"] if not cut and entities.annotator != "none" else []
    wanted += reading_rules(files).values()
    wanted += ["typed"] * given.typed + ([f"units:{units_identity(units)}"] if units else [])
    key = digest([*identity, *wanted])
    folder = cache / "shards" / f"{re.sub('[^a-z]+', '-', entities.annotator)[:_LONGEST_NAME]}-{key}"
    with _to_make(folder / MANIFEST, data) as absent:
        if absent:
            log.info("encoding %d corpus files into %s", len(files), folder)
            with progress_bar(unit=" documents") as bar:

                def show(documents: int, tokens: int) -> None:
                    bar.update(documents - bar.n)
                    bar.set_postfix_str(f"{tokens:,} tokens", refresh=False)

                build_shards(
                    folder,
                    files,
                    tokenizer_folder,
                    annotator_name,
                    cut=cut,
                    units=units,
                    max_documents=corpus.max_documents,
                    workers=workers,
                    progress=show,
                    cache=cache,
                    checksums=[checksum for _, checksum in contents],
                )
    shards = _open_shards(folder, tokenizer.fingerprint)
    log.info(
        "corpus: %s documents, %s sentences, %s tokens in %s",
        *(f"{n:,}" for n in (shards.manifest.documents, shards.manifest.sentences, shards.manifest.tokens)), folder,
    )  # fmt: skip
    if shards.manifest.empty:
        log.info("corpus: %s documents were left out, because they hold no text", f"{shards.manifest.empty:,}")
    if annotator_name != "none" and not shards.has_entities():
        log.warning("entities.annotator=%s: has found no entity in the whole corpus", entities.annotator)
    return shards


def _open_shards(folder: Path, fingerprint: str) -> ShardedCorpus:
    """Shards whose every byte is as it was written; of torchrun's processes the first one looks for all."""
    return ShardedCorpus(folder, fingerprint, verify=own_place()[0] == 0)


def _given_shards(folder: Path, entities: EntitiesConfig, tokenizer: Tokenizer, data: DataConfig) -> ShardedCorpus:
    shards = _open_shards(folder, tokenizer.fingerprint)
    found, given = shards.manifest, entities.entity_input()
    if (found.annotator == "none") != (entities.annotator == "none") or found.cut != given.mode.cuts:
        kind = "cut at entity boundaries" if found.cut else "not cut at entity boundaries"
        raise ConfigError(
            f"corpus.shards={folder}: its annotator is {found.annotator}, its tokens are {kind}; that does not go "
            f"with entities.annotator={entities.annotator}, entities.mode={entities.mode}"
        )
    if given.typed and not found.typed:
        raise ConfigError(f"corpus.shards={folder}: they do not tell types, which entities.typed=true wants")
    if own_place()[0] == 0:
        current = {"rules": tokenizer.rules, "normalisation": NORMALISATION}
        if any(found.recipe.get(key, value) != value for key, value in current.items()):  # older ones do not say
            log.warning(
                "corpus.shards=%s: made by a version that encodes some texts in another way; build_corpus.py with "
                "another output= makes them as this one does", folder,
            )  # fmt: skip
        _compare_annotators(folder, found.annotator, entities.annotator, data)
    return shards


def _compare_annotators(folder: Path, found: str, name: str, data: DataConfig) -> None:
    """Raise ConfigError for shards of another annotator than `name`; warn of another version, and where none can tell.

    The machine that trains may lack what annotates: lists of names, a tagger's run.
    """
    try:
        wanted = RecordAnnotator(expand_root(name, data), Path(data.cache)).fingerprint
    except KorbertError as error:
        log.warning(
            "corpus.shards=%s: whether entities.annotator=%s made it is not known here: %s", folder, name, error
        )
        return
    if wanted == found:
        return
    pattern = re.escape(wanted)
    for version in {analyser().version for analyser in ANALYSERS.values()}:
        pattern = pattern.replace(re.escape(f"-{version}"), "-[^,/()]+")  # within one annotator of several
    if not re.fullmatch(pattern, found):
        raise ConfigError(
            f"corpus.shards={folder}: its annotator is {found}, but entities.annotator={name} is {wanted}; "
            "experiments/build_corpus.py makes a corpus with that one"
        )
    log.warning("corpus.shards=%s: made with %s; here it would be %s, which may find others", folder, found, wanted)


def progress_bar(**options: Any) -> Any:
    """A progress bar on a terminal, nothing elsewhere."""
    return tqdm(dynamic_ncols=True, disable=not sys.stderr.isatty(), **options)


def train_tokenizer_folder(config: TrainTokenizerConfig) -> Path:
    """Train a tokenizer into the cache and, where `output` is set, save it there as well.

    Raises ConfigError where that would be over a tokenizer of another program.
    """
    folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    tokenizer = load_tokenizer(folder)
    if config.output is not None:
        _refuse_foreign(Path(config.output), folder)
        folder = Path(config.output)
        tokenizer.save(folder)
    log.info("%s: %d entries, fingerprint %s", folder, len(tokenizer), tokenizer.fingerprint)
    return folder


def _refuse_foreign(folder: Path, made: Path) -> None:
    """What another program has under the names of a tokenizer's files is not written over.

    What a killed command has left is the same as what is `made`, or a description that says whose it is.
    """
    if is_own_folder(folder):
        return
    for path in sorted(made.iterdir()):
        there = folder / path.name
        if there.exists() and (there.is_dir() or there.read_bytes() != path.read_bytes()):
            raise ConfigError(
                f"output={folder}: {there} is there already, is not of a tokenizer of korbert's, and would be written "
                "over; choose another folder"
            )
