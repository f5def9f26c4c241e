"""Runs brought together: groups that differ in seed and fold alone, in tables that never mix what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from korbert.files import HUGGING_FACE
from korbert.study.lineage import Run

_ANSWERS = ("finetune_korquad", "predict_korquad", "lexical_baseline", "pipeline")
_UNSEEDED = ("lexical_baseline",)
# Settings that name a row first, in this order, where they differ.
_FIRST = (
    "task", "tokenizer.kind", "tokenizer.split", "tokenizer.model_type", "tokenizer.vocab_size", "tokenizer.path",
    "entities.mode", "entities.annotator", "entities.typed", "init", "model.num_layers", "model.hidden_size",
)  # fmt: skip
# What a run took, not how good it is.
_COSTS = {"steps", "tokens", "seconds", "total", "unanswered", "kept_step", "train_questions"}
_LONGEST = 48  # characters of a setting's value in a table


@dataclass(frozen=True, slots=True)
class Measure:
    """A score: key in a record's results, times `scale`; `better` is high, low, or not known.

    digits: decimals; None where it may be of any size.
    """

    key: str
    title: str
    scale: float = 1.0
    digits: int | None = 2
    better: str = ""

    @property
    def is_percentage(self) -> bool:
        """Whether it lies between 0 and 100."""
        return self.title.endswith("(%)")

    def shown(self, value: float, sign: str = "") -> str:
        """A value for people to read. sign: "+" where a difference is."""
        text = f"{value:{sign}.4g}" if self.digits is None else f"{value:{sign}.{self.digits}f}"
        return text.replace("-", "−")


EXACT, F1 = Measure("exact_match", "EM (%)", better="high"), Measure("f1", "F1 (%)", better="high")
_PRETRAINING = (
    Measure("mlm_loss_per_character", "MLM nats / character", digits=3, better="low"),
    Measure("mlm_loss", "MLM nats / token", digits=3, better="low"),
    Measure("mlm_accuracy", "MLM accuracy (%)", 100, better="high"),
    Measure("nsp_accuracy", "NSP accuracy (%)", 100, better="high"),
)
_OF_TOKENS = {"mlm_loss", "mlm_accuracy"}  # say nothing across vocabularies, nor where text is cut elsewhere


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in seed and fold alone. It is itself alone, whatever another one is called.

    name: what tells it from the others, or its run's own; label: the values of that alone, for a plot.
    cells: those values by their settings, different ones never alike.
    """

    settings: Mapping[str, Any]
    runs: Sequence[Run]
    name: str
    label: str
    cells: Mapping[str, str]

    def units(self) -> dict[Any, dict[int | None, list[Run]]]:
        """Runs by what repeats the whole experiment, then by fold.

        That is the seed of pretraining where it differs, and the seed of the run itself otherwise.
        """
        pretrained = self.repeats_pretraining()
        found: dict[Any, dict[int | None, list[Run]]] = {}
        for run in self.runs:
            unit = run.pretraining_seed if pretrained else run.seed
            found.setdefault(unit, {}).setdefault(run.fold, []).append(run)
        return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0])))

    def repeats_pretraining(self) -> bool:
        """Whether its runs began with pretrainings of several seeds."""
        return len({run.pretraining_seed for run in self.runs} - {None}) > 1

    def is_seeded(self) -> bool:
        """Whether anything of it is drawn at random."""
        return any(run.task not in _UNSEEDED for run in self.runs)

    def rests_on_one_pretraining(self) -> bool:
        """Whether its runs have several seeds, but all began with one pretrained model of ours.

        Its record need not be at hand. A published model is what it is: nobody asks how another seed of it would do.
        """
        if any(run.origin is None or run.origin.startswith(HUGGING_FACE) for run in self.runs):
            return False
        origins = {run.origin for run in self.runs}
        seeds = {run.pretraining_seed for run in self.runs}  # one that was made on several machines is one
        is_one = len(origins) == 1 or (len(seeds) == 1 and None not in seeds)
        return is_one and len({run.seed for run in self.runs}) > 1


@dataclass(frozen=True)
class Table:
    """Groups that were scored in the same way, on the same folds.

    columns: settings that tell the groups apart; further: others that differ too.
    """

    title: str
    protocol: str
    folds: Sequence[int | None]
    measures: Sequence[Measure]
    columns: Sequence[str]
    further: Sequence[str]
    groups: Sequence[Group]

    def of_single_runs(self) -> bool:
        """Whether each group is one run, and goes by its name."""
        return all(len(group.runs) == 1 for group in self.groups)

    def has_answers(self) -> bool:
        """Whether its scores are of answers to questions."""
        return EXACT in self.measures or F1 in self.measures


def make_tables(runs: Sequence[Run]) -> list[Table]:
    """Tables in the order of their first runs: one for each task, protocol and set of folds."""
    same: dict[str, list[Run]] = {}
    for run in runs:
        same.setdefault(json.dumps([_family(run), run.protocol, run.settings], sort_keys=True, default=str), []).append(
            run
        )
    tables: dict[tuple[str, str, tuple[int | None, ...]], list[list[Run]]] = {}
    for members in same.values():
        first = members[0]
        folds = tuple(sorted({run.fold for run in members}, key=lambda fold: -1 if fold is None else fold))
        tables.setdefault((_family(first), first.protocol, folds), []).append(members)
    telling: dict[tuple[str, str], list[str]] = {}
    for family in dict.fromkeys((title, protocol) for title, protocol, _ in tables):
        settings = [_own_settings(members) for key, groups in tables.items() if key[:2] == family for members in groups]
        telling[family] = telling_settings(settings, differing_settings(settings))
    made = [_table(*key, groups, telling[key[:2]]) for key, groups in tables.items()]
    return sorted((table for table in made if table.measures), key=lambda table: not table.has_answers())


def _family(run: Run) -> str:
    return "KorQuAD" if run.task in _ANSWERS else run.task.replace("_", " ")


def _own_settings(members: Sequence[Run]) -> dict[str, Any]:
    return {"task": members[0].task, **members[0].settings}


def _table(
    title: str, protocol: str, folds: Sequence[int | None], groups: Sequence[Sequence[Run]], telling: Sequence[str]
) -> Table:
    """telling: settings that tell apart all groups of the protocol, so that a group that has other folds, and a table
    of its own, is called the same as beside the others."""
    settings = [_own_settings(members) for members in groups]
    differing = differing_settings(settings)
    alone = all(len(members) == 1 for members in groups)  # single runs are known by their names
    columns = [key for key in telling if not alone or key in differing]
    cells = {key: _told_apart([of_group.get(key) for of_group in settings]) for key in columns}
    made = []
    for number, (members, of_group) in enumerate(zip(groups, settings, strict=True)):
        named = {key: cells[key][number] for key in columns}
        name = ", ".join(f"{key}={value}" for key, value in named.items()) or "all runs"
        label = " · ".join(named.values()) or "all runs"
        made.append(Group(of_group, members, *((members[0].name,) * 2 if alone else (name, label)), named))
    measures = _measures(title, [run for members in groups for run in members], differing)
    return Table(title, protocol, folds, measures, columns, [key for key in differing if key not in columns], made)


def _measures(title: str, runs: Sequence[Run], differing: Sequence[str]) -> list[Measure]:
    keys = dict.fromkeys(
        key for run in runs for key, value in run.results.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in _COSTS
    )  # fmt: skip
    if title == "KorQuAD":
        if not any(run.results.get("scored", True) for run in runs):
            return []  # their questions have no gold answers
        return [EXACT, F1]  # also where they are missing: that is worth a remark
    if title == "pretrain":
        several = any(key.startswith(("tokenizer.", "entities.")) for key in differing)
        return [m for m in _PRETRAINING if m.key in keys and not (several and m.key in _OF_TOKENS)]
    return [Measure(key, key.replace("_", " "), digits=None) for key in keys]


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values are not the same in all, the telling ones first."""
    keys = dict.fromkeys([*_FIRST, *(key for one in settings for key in one)])
    return [key for key in keys if len({_frozen(one.get(key)) for one in settings}) > 1]


def telling_settings(settings: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> list[str]:
    """The first of `keys` that together tell all settings apart."""
    chosen: list[str] = []
    parts: list[tuple[str, ...]] = [()] * len(settings)
    for key in keys:
        finer = [(*part, _frozen(one.get(key))) for part, one in zip(parts, settings, strict=True)]
        if len(set(finer)) > len(set(parts)):
            chosen.append(key)
            parts = finer
    return chosen


def _frozen(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def shown(value: Any, longest: int = _LONGEST) -> str:
    """A setting's value for people to read; of a long one the beginning and the end, which tells more in a path."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else _frozen(value)
    begin = longest // 3
    return text if len(text) <= longest else f"{text[:begin]}…{text[begin + 1 - longest :]}"


def _told_apart(values: Sequence[Any]) -> list[str]:
    """Values for people to read, whole where two that are different would read the same."""
    by_text: dict[str, set[str]] = {}
    for value in values:
        by_text.setdefault(shown(value), set()).add(_frozen(value))
    return [
        shown(value) if len(by_text[shown(value)]) == 1 else shown(value, longest=len(_frozen(value)))
        for value in values
    ]
