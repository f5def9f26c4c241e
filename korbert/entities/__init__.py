"""Where entities come from."""

from __future__ import annotations

import importlib
from pathlib import Path

from korbert.entities.base import EntityAnnotator, NoEntities
from korbert.entities.control import DamagedAnnotator, RandomSpanAnnotator
from korbert.entities.expressions import ExpressionAnnotator
from korbert.entities.gazetteer import GazetteerAnnotator, GazetteerRules
from korbert.entities.morphology import NounRunAnnotator
from korbert.entities.store import CachedAnnotator, StoredAnnotator, with_cache, write_store
from korbert.entities.union import UnionAnnotator, merged
from korbert.errors import ConfigError
from korbert.morphology import ANALYSERS

__all__ = [
    "LINKS",
    "RANDOM",
    "CachedAnnotator",
    "DamagedAnnotator",
    "EntityAnnotator",
    "ExpressionAnnotator",
    "GazetteerAnnotator",
    "NoEntities",
    "NounRunAnnotator",
    "RandomSpanAnnotator",
    "StoredAnnotator",
    "UnionAnnotator",
    "annotator_files",
    "make_annotator",
    "merged",
    "with_cache",
    "write_store",
]
LINKS = "links"  # the name of a store of a dump's links
RANDOM, _EXPRESSIONS = "random-", "expressions-"  # before the name of any annotator; of an analyser
_GAZETTEER, _WHOLE_GAZETTEER, _TAGGER, _STORED_LINKS = "gazetteer:", "gazetteer-all:", "tagger:", f"{LINKS}:"
_GAZETTEERS = {_GAZETTEER: GazetteerRules(), _WHOLE_GAZETTEER: GazetteerRules(common_length=0)}
_KINDS = ("proper", "compounds", "nouns")  # of noun runs, before the name of an analyser


def make_annotator(name: str, store: Path | str | None = None, cache: Path | str | None = None) -> EntityAnnotator:
    """Return the annotator that `entities.annotator` names.

    "none"; a morphological analyser's name: its runs of proper nouns and foreign words; before such a name, "proper-":
    those of proper nouns alone, "compounds-": compound nouns, "nouns-": all runs of nouns, "expressions-": numbers,
    dates, times; "gazetteer:" and files of names, apart by commas, or "gazetteer-all:", which leaves out no short ones;
    "tagger:" and the run of a trained one; "links:" and a file of links that `experiments/extract_wiki.py` has read;
    several of these joined by "+", of which the earlier ones have priority; "random-" before any of them: random spans
    in its entities' place. store: a file of annotations made beforehand, see `write_store`. cache: a folder for what
    takes long to make. Raises ConfigError for a name that is none of these, DataError for a file or run that is missing
    or cannot be used.
    """
    if store is not None and name != "none":
        return StoredAnnotator(Path(store), name, lambda: make_annotator(name, cache=cache))
    if name.startswith(RANDOM):
        return RandomSpanAnnotator(make_annotator(name.removeprefix(RANDOM), cache=cache))
    if not isinstance(name, str):
        raise ConfigError(f"entities.annotator: wanted a name, got {name!r}")
    if "+" in name:
        return UnionAnnotator([make_annotator(part, cache=cache) for part in name.split("+")])
    for prefix, rules in _GAZETTEERS.items():
        if name.startswith(prefix):
            files = [Path(path) for path in annotator_files(name)]
            return GazetteerAnnotator(files, rules, None if cache is None else Path(cache) / "gazetteers")
    if name in (_STORED_LINKS, _TAGGER):
        raise ConfigError(f"entities.annotator: {name!r} lacks what it reads, {_STORED_LINKS}FILE or {_TAGGER}RUN")
    if name.startswith(_STORED_LINKS):
        return StoredAnnotator(Path(name.removeprefix(_STORED_LINKS)), LINKS, None)
    if name.startswith(_TAGGER):
        # A tagger is a model, which stands far above the annotators: imported by name, and only where one is asked for.
        annotator: EntityAnnotator = importlib.import_module("korbert.tagger").TaggerAnnotator(
            name.removeprefix(_TAGGER)
        )
        return annotator
    if name.startswith(_EXPRESSIONS):
        return ExpressionAnnotator(name.removeprefix(_EXPRESSIONS))
    kind, _, analyser = name.rpartition("-")
    if kind in _KINDS and analyser in ANALYSERS:
        return NounRunAnnotator(analyser, kind)
    if name not in ("none", *ANALYSERS):
        raise ConfigError(
            f"entities.annotator: {name!r} is unknown, wanted none, one of {', '.join(ANALYSERS)}, one of these behind "
            f"{', '.join(f'{prefix}-' for prefix in _KINDS)} or {_EXPRESSIONS}, {_GAZETTEER}FILE,FILE, "
            f"{_WHOLE_GAZETTEER}FILE, {_TAGGER}RUN, {_STORED_LINKS}FILE, several of these joined "
            f"by +, or any of it behind {RANDOM}; names of files must hold no + and no comma"
        )
    return NoEntities() if name == "none" else NounRunAnnotator(name)


def annotator_files(name: str) -> list[str]:
    """The files and folders that the annotator of that name reads: lists of names, runs of taggers, files of links."""
    files: list[str] = []
    for part in name.split("+"):
        plain = part.removeprefix(RANDOM)
        for prefix in _GAZETTEERS:
            if plain.startswith(prefix):
                files += plain.removeprefix(prefix).split(",")
        for prefix in (_TAGGER, _STORED_LINKS):
            if plain.startswith(prefix):
                files.append(plain.removeprefix(prefix))
    return [file for file in files if file]
