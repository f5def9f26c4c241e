"""Where entities come from."""

from __future__ import annotations

from pathlib import Path

from korbert.entities.base import EntityAnnotator, NoEntities
from korbert.entities.control import RandomSpanAnnotator
from korbert.entities.morphology import ProperNounAnnotator
from korbert.entities.store import StoredAnnotator, write_store

__all__ = [
    "EntityAnnotator",
    "NoEntities",
    "ProperNounAnnotator",
    "RandomSpanAnnotator",
    "StoredAnnotator",
    "make_annotator",
    "write_store",
]
_RANDOM = "random-"


def make_annotator(name: str, store: Path | str | None = None) -> EntityAnnotator:
    """Return the annotator that `entities.annotator` names.

    "none", a morphological analyser's name, or "random-" and such a name for random spans in its entities' place.
    store: a file of annotations made beforehand, see `write_store`.
    """
    if store is not None and name != "none":
        return StoredAnnotator(Path(store), name, lambda: make_annotator(name))
    if name.startswith(_RANDOM):
        return RandomSpanAnnotator(make_annotator(name.removeprefix(_RANDOM)))
    return NoEntities() if name == "none" else ProperNounAnnotator(name)
