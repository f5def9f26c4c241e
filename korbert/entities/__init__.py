"""Where entities come from."""

from __future__ import annotations

import importlib
from pathlib import Path

from korbert.entities.base import EntityAnnotator, NoEntities
from korbert.entities.control import RandomSpanAnnotator
from korbert.entities.expressions import ExpressionAnnotator
from korbert.entities.gazetteer import GazetteerAnnotator
from korbert.entities.morphology import NounRunAnnotator
from korbert.entities.store import CachedAnnotator, StoredAnnotator, with_cache, write_store
from korbert.entities.union import UnionAnnotator, merged

__all__ = [
    "LINKS",
    "CachedAnnotator",
    "EntityAnnotator",
    "ExpressionAnnotator",
    "GazetteerAnnotator",
    "NoEntities",
    "NounRunAnnotator",
    "RandomSpanAnnotator",
    "StoredAnnotator",
    "UnionAnnotator",
    "make_annotator",
    "merged",
    "with_cache",
    "write_store",
]
_RANDOM, _EXPRESSIONS, _GAZETTEER, _TAGGER = "random-", "expressions-", "gazetteer:", "tagger:"
_KINDS = ("proper", "compounds", "nouns")  # of noun runs, before the name of an analyser
LINKS = "links"  # the name of a store of a dump's links


def make_annotator(name: str, store: Path | str | None = None, cache: Path | str | None = None) -> EntityAnnotator:
    """Return the annotator that `entities.annotator` names.

    "none"; a morphological analyser's name: its runs of proper nouns and foreign words; before such a name, "proper-":
    those of proper nouns alone, "compounds-": compound nouns, "nouns-": all runs of nouns, "expressions-": numbers,
    dates, times; "gazetteer:" and files of names, apart by commas; "tagger:" and the run of a trained one; "links:" and
    a file of links that `experiments/extract_wiki.py` has read; several of these joined by "+", of which the earlier
    ones have priority; "random-" before any of them: random spans in its entities' place. store: a file of annotations
    made beforehand, see `write_store`. cache: a folder for what takes long to make.
    """
    if store is not None and name != "none":
        return StoredAnnotator(Path(store), name, lambda: make_annotator(name, cache=cache))
    if name.startswith(_RANDOM):
        return RandomSpanAnnotator(make_annotator(name.removeprefix(_RANDOM), cache=cache))
    if "+" in name:
        return UnionAnnotator([make_annotator(part, cache=cache) for part in name.split("+")])
    if name.startswith(_GAZETTEER):
        files = [Path(path) for path in name.removeprefix(_GAZETTEER).split(",") if path]
        return GazetteerAnnotator(files, cache=None if cache is None else Path(cache) / "gazetteers")
    if name.startswith(f"{LINKS}:"):
        return StoredAnnotator(Path(name.removeprefix(f"{LINKS}:")), LINKS, None)
    if name.startswith(_TAGGER):
        # A tagger is a model, which stands far above the annotators: imported by name, and only where one is asked for.
        annotator: EntityAnnotator = importlib.import_module("korbert.tagger").TaggerAnnotator(
            name.removeprefix(_TAGGER)
        )
        return annotator
    if name.startswith(_EXPRESSIONS):
        return ExpressionAnnotator(name.removeprefix(_EXPRESSIONS))
    kind, _, analyser = name.rpartition("-")
    if kind in _KINDS:
        return NounRunAnnotator(analyser, kind)
    return NoEntities() if name == "none" else NounRunAnnotator(name)
