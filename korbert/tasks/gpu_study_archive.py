"""What a GPU machine without analysers and without a network needs for the study, in one archive of at most 60 MB."""

from __future__ import annotations

import contextlib
import itertools
import logging
import lzma
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from korbert.config import EntitiesConfig, GpuStudyConfig, expand_root
from korbert.data.corpus import read_documents
from korbert.data.korquad import read_korquad
from korbert.entities import make_annotator, write_store
from korbert.errors import ConfigError, DataError
from korbert.files import checksum, plain_name, read_json, write_json_atomically, write_text_atomically
from korbert.tasks.own_folders import check_own, renew
from korbert.tasks.prepare import corpus_files, prepare_shards, prepare_tokenizer

log = logging.getLogger(__name__)
NO_ANNOTATOR = "none"
_LIMIT_MEGABYTES = 60
_MARKER = ".gpu_study"  # in what is made here
_ARCHIVE, _DESCRIPTION, _TOKENIZER = "study.tar.xz", "study.json", "tokenizer"
_QUESTIONS, _ANNOTATIONS, _TEXT, _SHARDS = "questions", "annotations", "text", "shards-"  # in the archive
_PARAGRAPHS, _PARAGRAPH_BYTES = "paragraphs.txt", 3_000_000
# Wide enough for the same piece of all shards: what they have in common is then written once.
_COMPRESSION = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare_study` has made in `folder`, and where it lies once `unpack` has been called.

    annotators: name, as in `korbert.entities.make_annotator` with "{root}" in it, → what its shards and its store
    are called. test, train: names of question files.
    """

    folder: Path
    unpacked: Path
    annotators: Mapping[str, str]
    test: str
    train: tuple[str, ...]
    archive: str  # SHA-256

    @classmethod
    def read(cls, folder: Path, unpacked: Path) -> Prepared:
        """Raises DataError for a description that was not written here."""
        path = folder / _DESCRIPTION
        found = read_json(path)
        try:
            places = {name: plain_name(path, "annotators", place) for name, place in found["annotators"].items()}
            test, *train = (plain_name(path, "questions", name) for name in (found["test"], *found["train"]))
            return cls(folder, unpacked, places, test, tuple(train), str(found["archive"]))
        except (KeyError, TypeError, AttributeError) as error:
            keys = "annotators, test, train, archive"
            raise DataError(path, keys, f"wanted what `prepare` writes, {type(error).__name__}: {error}") from None

    @property
    def tokenizer(self) -> Path:
        """The folder of the trained tokenizer."""
        return self.folder / _TOKENIZER

    @property
    def paragraphs(self) -> Path:
        """Text of the corpus for a benchmark, empty lines between its documents."""
        return self.unpacked / _TEXT / _PARAGRAPHS

    def shards(self, annotator: str) -> Path:
        """The corpus with this annotator's entities."""
        return self.unpacked / f"{_SHARDS}{self.annotators[annotator]}"

    def store(self, annotator: str) -> Path:
        """This annotator's entities in all texts of the questions' files."""
        return self.unpacked / _ANNOTATIONS / f"{self.annotators[annotator]}.sqlite"

    def questions(self, name: str) -> Path:
        """A file of questions, by name."""
        return self.unpacked / _QUESTIONS / name

    def unpack(self) -> None:
        """Unpack all, unless it is there. Raises DataError for an archive that is not what was written."""
        marker = self.unpacked / _MARKER
        if marker.exists() and marker.read_text("utf-8") == self.archive:
            return
        archive = self.folder / _ARCHIVE
        if checksum(archive) != self.archive:
            raise DataError(archive, "checksum", f"damaged, this is not what {_DESCRIPTION} says was written")
        check_own(self.unpacked, _MARKER)
        renew(self.unpacked, _MARKER)
        unpack(archive, self.unpacked)
        write_text_atomically(marker, self.archive)


def prepare_study(config: GpuStudyConfig, arms: Mapping[str, EntitiesConfig]) -> None:
    """Make everything that the study of these arms needs in `config.folder`; it replaces what an earlier call made.

    Raises ConfigError for a folder with anything else in it. What an earlier call made stays until all that goes into
    the new folder is there.
    """
    folder = Path(config.folder)
    check_own(folder, _MARKER, lambda made: (made / _DESCRIPTION).is_file() and (made / _TOKENIZER).is_dir())
    questions = [Path(expand_root(path, config.data)) for path in (config.test_file, *config.train_files)]
    datasets = [read_korquad(path) for path in questions]
    annotators: dict[str, str] = {NO_ANNOTATOR: NO_ANNOTATOR}  # the check of layouts wants shards without entities
    for arm, entities in arms.items():
        annotators.setdefault(entities.annotator, arm)
    tokenizer_folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    shards, stores = {}, {}
    for name, place in annotators.items():
        is_plain = name == NO_ANNOTATOR
        # Cut at entities and with their types, which serves every arm of this annotator.
        wanted = EntitiesConfig(annotator=name, mode="none" if is_plain else "both", typed=not is_plain)
        corpus = prepare_shards(tokenizer_folder, wanted, config.corpus, config.data, config.runtime.workers)
        shards[place] = corpus.folder
        if not is_plain:
            stores[name] = make_annotator(expand_root(name, config.data), cache=config.data.cache)
    for path in (*questions, tokenizer_folder, *shards.values()):
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"folder={folder}: {path} lies in it, which is made anew; choose another folder")

    renew(folder, _MARKER)
    shutil.copytree(tokenizer_folder, folder / _TOKENIZER)
    loose = {place: folder / place for place in (_QUESTIONS, _ANNOTATIONS, _TEXT)}
    for made in loose.values():
        made.mkdir()
    for path in questions:
        shutil.copy(path, loose[_QUESTIONS] / path.name)
    texts = sorted({text for dataset in datasets for text in dataset.texts()})
    for name, annotator in stores.items():
        write_store(loose[_ANNOTATIONS] / f"{annotators[name]}.sqlite", name, annotator, texts)
    _write_paragraphs(config, loose[_TEXT] / _PARAGRAPHS)
    log.info("packing the shards of %s", ", ".join(annotators))
    pack(folder / _ARCHIVE, loose | {f"{_SHARDS}{place}": made for place, made in shards.items()})
    for made in loose.values():
        shutil.rmtree(made)
    write_json_atomically(
        folder / _DESCRIPTION,
        {
            "annotators": annotators,
            "test": questions[0].name,
            "train": [path.name for path in questions[1:]],
            "archive": checksum(folder / _ARCHIVE),
        },
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    log.info("%s: %.1f MB", folder, size)
    if size > _LIMIT_MEGABYTES:
        raise ConfigError(
            f"{folder} has {size:.1f} MB, more than {_LIMIT_MEGABYTES}: choose a lower corpus.max_documents than "
            f"{config.corpus.max_documents}"
        )


def _write_paragraphs(config: GpuStudyConfig, path: Path) -> None:
    """The first megabytes of the corpus as text."""
    lines: list[str] = []
    size = 0
    for document in itertools.chain.from_iterable(map(read_documents, corpus_files(config.corpus, config.data))):
        lines += [*document, ""]
        size += sum(len(paragraph.encode()) for paragraph in document)
        if size > _PARAGRAPH_BYTES:
            break
    write_text_atomically(path, "\n".join(lines) + "\n")


def pack(archive: Path, places: Mapping[str, Path]) -> None:
    """Write the files of each place's folder as PLACE/NAME, those of one name beside each other."""
    files = sorted((path.name, place, path) for place, folder in places.items() for path in folder.iterdir())
    with (
        lzma.open(archive, "wb", format=lzma.FORMAT_XZ, filters=_COMPRESSION) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name, place, path in files:
            tar.add(path, f"{place}/{name}")


def unpack(archive: Path, target: Path) -> None:
    """Write what `pack` packed below `target`. Raises DataError for a member of any other kind or name."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                place, _, name = member.name.partition("/")
                source = tar.extractfile(member) if member.isfile() else None
                if source is None:
                    raise DataError(archive, member.name, "wanted files and nothing else")
                file = target / plain_name(archive, "member", place) / plain_name(archive, "member", name)
                file.parent.mkdir(exist_ok=True)
                with contextlib.closing(source), file.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise DataError(archive, "archive", f"this is no archive of a study: {error}") from error
