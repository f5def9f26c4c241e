"""Building token shards from documents: piece by piece, by several processes and jobs, and on from where it stopped.

The sources are cut into pieces; each piece becomes files that are written whole or not at all, and what is in them
depends on the recipe alone. So the same bytes come out whatever the number of processes, jobs and interruptions. Where
documents are filtered, every piece is first signed (reasons of its own documents, hashes), then it is decided for the
whole corpus which documents stay, and then pieces are encoded. `build/` in the folder holds what is needed on the way,
until `manifest.json` says that all is there.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from korbert.data.duplicates import SignatureStore, decide
from korbert.data.filters import Reason
from korbert.data.pieces import Piece, PieceReader
from korbert.data.piecework import COMPLETE, Done, Folders, PieceEncoder, Recipe, Signer
from korbert.data.shardfiles import MANIFEST, Manifest
from korbert.errors import ConfigError, DataError
from korbert.files import atomic_file, checksum, is_leftover, read_sealed_json, write_sealed_json
from korbert.parallel import ordered_map

_PLAN = "recipe.json"
log = logging.getLogger(__name__)
_PATIENCE = 1.0  # seconds: another job may look for a moment whether this part is at work
_POLL = 1.0  # seconds between looks at what other jobs have done


class Builder:
    """Builds a recipe's shards in `output`, or one of `parts` jobs' share of them.

    workers: processes, beside this one where there are more than one. progress: is called with each piece done.
    """

    def __init__(
        self,
        output: Path,
        recipe: Recipe,
        *,
        part: int = 0,
        parts: int = 1,
        workers: int = 1,
        progress: Callable[[Done], None] | None = None,
    ) -> None:
        if not 0 <= part < parts:
            raise ConfigError(f"part={part}: wanted a number from 0 to parts-1, which is {parts - 1}")
        self.recipe, self.workers, self.progress = recipe, workers, progress
        self.job = f"part-{part}-of-{parts}"
        self.folders = Folders(output, output / "build" / f"scratch-{self.job}")
        self.identity = recipe.identity()
        self._whole: set[str] = set()
        self.reader = PieceReader(
            self.folders.build / "files", recipe.sources, recipe.piece_characters, recipe.max_documents, part, parts
        )

    def finished(self) -> Manifest | None:
        """The manifest, if everything is there. Raises ConfigError where the folder holds something else."""
        if not (self.folders.output / MANIFEST).exists():
            return None
        manifest = Manifest.open(self.folders.output)
        _same(self.folders.output, manifest.recipe, self.identity)
        if self.folders.build.exists():
            self._tidy()
        return manifest

    def can_go_on(self) -> bool:
        """Whether what is in the folder, if anything, is of this recipe."""
        plan = self.folders.build / _PLAN
        if (self.folders.output / MANIFEST).exists():
            return Manifest.open(self.folders.output).recipe == self.identity
        return read_sealed_json(plan) == self.identity if plan.exists() else not self.folders.output.exists()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Be the one process that does this part. Raises ConfigError where another one is, and see `check_output`."""
        check_output(self.folders.output)
        self.folders.build.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folders.build / f"{self.job}.lock", timeout=_PATIENCE):
                plan = self.folders.build / _PLAN
                with FileLock(self.folders.build / "recipe.lock"):
                    begun = read_sealed_json(plan) if plan.exists() else None
                    if begun not in (None, self.identity):
                        self._renew(begun)
                    if begun != self.identity:
                        write_sealed_json(plan, self.identity)
                shutil.rmtree(self.folders.scratch, ignore_errors=True)  # what a killed process left
                for folder in (self.folders.scratch, self.folders.pieces, self.folders.signatures):
                    folder.mkdir(parents=True, exist_ok=True)
                yield
        except Timeout:
            part = self.job.replace("-", " ")
            raise ConfigError(f"{self.folders.output}: another process is building {part} in this folder") from None

    def _renew(self, begun: dict[str, Any]) -> None:
        """Forget the pieces of sources that have changed, such as one that was cut off and was brought again.

        Raises ConfigError where anything else has, or where it is too late, because other pieces depend on them.
        """
        others = [recipe["sources"] for recipe in (begun, self.identity)]
        names = [[name for name, _ in sources] for sources in others]
        is_late = self.recipe.max_documents is not None or self._is_decided() or not self._is_alone()
        if names[0] != names[1] or is_late:
            _same(self.folders.output, begun, self.identity)
        _same(self.folders.output, {**begun, "sources": others[1]}, self.identity)
        for file, (before, after) in enumerate(zip(*others, strict=True)):
            if before != after:
                for folder in (self.reader.folder, self.folders.signatures, self.folders.pieces, self.folders.output):
                    for path in folder.glob(f"{file:05d}[-.]*"):
                        path.unlink()

    def sign(self) -> None:
        """Sign this part's pieces that are not signed yet."""
        if self.recipe.filters.any and not self._is_decided():
            self._work(Signer, lambda name: (self.folders.signatures / f"{name}.npz").exists())

    def decide(self) -> bool:
        """Decide which documents stay, if it has not been done; False where signatures are still missing."""
        if not self.recipe.filters.any or self._is_decided():
            return True
        names = self.reader.names()
        if names is None or not all((self.folders.signatures / f"{name}.npz").exists() for name in names):
            return False
        with FileLock(self.folders.build / "decide.lock"):
            if not self._is_decided():
                store = SignatureStore(self.folders.signatures, names)
                reasons = decide(store, self.recipe.filters)
                sums: dict[str, str] = {}
                for name, first, last in zip(names, store.first[:-1], store.first[1:], strict=True):
                    path = self.folders.reasons / f"{name}.npy"
                    with atomic_file(path) as file:
                        np.save(file, reasons[first:last])
                    sums[name] = checksum(path)
                write_sealed_json(self.folders.reasons / COMPLETE, {"documents": len(reasons), "checksums": sums})
        return True

    def encode(self) -> None:
        """Encode this part's pieces that are not there yet, or not as they were written."""
        self._work(PieceEncoder, self._is_whole)

    def merge(self) -> Manifest | None:
        """Write the manifest, if all pieces of all parts are there. Raises DataError as `check_some`."""
        names = self.reader.names()
        if names is None or not all(self._is_encoded(name) for name in names):
            return None
        with FileLock(self.folders.build / "merge.lock"):
            manifest = self.finished()
            if manifest is None:
                manifest = self._manifest(names)
                check_some(self.folders.output, manifest)
                write_sealed_json(self.folders.output / MANIFEST, asdict(manifest), self.folders.scratch)
        self._tidy()
        return manifest

    def unfinished(self) -> str:
        """What other parts have still to do."""
        names = self.reader.names()
        if names is None:
            return "some files have not been read to their end"
        missing = [name for name in names if not self._is_encoded(name)]
        return f"{len(missing)} of {len(names)} pieces are missing" + (f" ({missing[0]}, …)" if missing else "")

    def build(self) -> Manifest:
        """All of it, where there is but one part."""
        manifest = self.finished()
        if manifest is not None:
            return manifest
        with self.working():
            self.sign()
            self.decide()
            self.encode()
            manifest = self.merge()
        assert manifest is not None
        return manifest

    def wait(self, is_there: Callable[[], bool], seconds: float) -> bool:
        """Wait for other jobs, at most so long."""
        end = time.monotonic() + seconds
        while not is_there():
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)
        return True

    def _work(self, make: Callable[[Recipe, Folders], Callable[[Piece], Done]], is_done: Callable[[str], bool]) -> None:
        pieces = self.reader.missing(is_done)
        for done in ordered_map(make, (self.recipe, self.folders), pieces, self.workers, chunk=1):
            if self.progress:
                self.progress(done)

    def _is_decided(self) -> bool:
        return (self.folders.reasons / COMPLETE).exists()

    def _is_encoded(self, name: str) -> bool:
        path = self.folders.pieces / f"{name}.json"
        if not path.exists():
            return False
        try:
            files = read_sealed_json(path)["files"]
        except DataError as error:
            log.warning("%s; the piece is made again", error)
            return False
        return all(_size(self.folders.output / file) == size for file, (size, _) in files.items())

    def _is_whole(self, name: str) -> bool:
        """Whether a piece is encoded, and all its bytes are as they were written; looked at once."""
        if name not in self._whole and self._is_encoded(name):
            files = read_sealed_json(self.folders.pieces / f"{name}.json")["files"]
            bad = [file for file, (_, digest) in files.items() if checksum(self.folders.output / file) != digest]
            if bad:
                log.warning("%s: damaged; the piece is made again", self.folders.output / bad[0])
                return False
            self._whole.add(name)
        return name in self._whole

    def _manifest(self, names: list[str]) -> Manifest:
        counts = Counter[str]()
        dropped = Counter({reason.label: 0 for reason in Reason if reason} if self.recipe.filters.any else {})
        files: dict[str, tuple[int, str]] = {}
        shards = []
        for name in names:
            piece = read_sealed_json(self.folders.pieces / f"{name}.json")
            dropped.update(piece.pop("dropped"))
            shards += [name] if piece["files"] else []
            files.update(piece.pop("files"))
            counts.update(piece)
        numbers = {key: counts[key] for key in ("documents", "sentences", "tokens", "characters", "empty", "read")}
        return Manifest(
            tokenizer=self.identity["tokenizer"],
            annotator=self.identity["annotator"],
            cut=self.identity["cut"],
            sources=tuple(path.name for path in self.recipe.sources),
            shards=len(shards),
            typed=True,
            units=self.recipe.units,
            dropped=dict(dropped),
            names=tuple(shards),
            files=files,
            recipe=self.identity,
            **numbers,
        )

    def _tidy(self) -> None:
        """Remove what was needed on the way, unless another job is still at it, or it is not of this build."""
        build = self.folders.build
        if self._is_own() and self._is_alone():
            for path in build.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(build, ignore_errors=True)  # the recipe last: without it, nobody would know whose it all is

    def _is_own(self) -> bool:
        """Whether `build/` is what this recipe's builds have made."""
        plan = self.folders.build / _PLAN
        try:
            return read_sealed_json(plan) == self.identity if plan.exists() else _holds_nothing(self.folders.build)
        except DataError:
            return False

    def _is_alone(self) -> bool:
        """Whether no process works on another part."""
        for path in self.folders.build.glob("part-*.lock"):
            lock = FileLock(path, timeout=0)
            if path.name != f"{self.job}.lock":
                try:
                    lock.acquire()
                except Timeout:
                    return False
                lock.release()
        return True


def check_some(output: Path, manifest: Manifest) -> None:
    """Raise DataError where there is no document in a corpus, which says what left them out."""
    if manifest.documents:
        return
    counts = {"without a token": manifest.empty}
    for reason in Reason:
        name = f"{reason.label} (filters.{reason.key})" if reason.key else reason.label
        counts[name] = manifest.dropped.get(reason.label, 0)
    found = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "nothing to read"
    raise DataError(output, "documents", f"none of {manifest.read:,} is left: {found}; wanted one or more")


def check_output(output: Path) -> None:
    """Raise ConfigError where `output` is a file, or has a `build/` of somebody else's, which would be removed."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output={output}: this is a file; wanted a folder")
    build = output / "build"
    if build.exists() and not (build / _PLAN).exists() and not _holds_nothing(build):
        raise ConfigError(
            f"output={output}: {build} is not of a build of shards, which needs that name and would remove it at its "
            "end; choose another folder"
        )


def _holds_nothing(build: Path) -> bool:
    """Whether there is nothing but what a build leaves that was killed before it had noted its recipe."""
    return build.is_dir() and all(path.suffix == ".lock" or is_leftover(path) for path in build.iterdir())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _same(folder: Path, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [key for key in wanted if begun.get(key) != wanted[key]]
    if differing and set(differing) <= {"rules", "normalisation", "reading"}:
        raise ConfigError(
            f"{folder}: was begun by a version that reads or encodes some texts in another way, or does not say; "
            "choose another folder, or delete this one"
        )
    if differing:
        parts = ", ".join(differing)
        raise ConfigError(f"{folder}: was begun with another {parts}; choose another folder, or delete this one")
