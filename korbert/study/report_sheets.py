"""The report's tables of what came out: scores, and differences from a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from korbert.study.answers import Answers
from korbert.study.breakdowns import Part, Share
from korbert.study.contrasts import (
    BOTH,
    FOLDS,
    NO_SPREAD,
    NOTHING,
    ONE_PRETRAINING,
    ONE_SEED,
    ONE_SIDED,
    OTHER_FOLDS,
    QUESTIONS,
    SAME_MODEL,
    SEEDS,
    SOME_FOLDS,
    UNPAIRED,
    Contrast,
    Score,
    contrasts,
    score,
    significance_marks,
)
from korbert.study.errors import BREAKDOWNS, OF_ENTITIES
from korbert.study.grouping import EXACT, Group, Measure, Table
from korbert.study.sheets import Cell, Sheet, without_empty_columns
from korbert.study.trends import Trend, goes_along

_SOURCES = {
    BOTH: "drawn are seeds and whole articles of questions together (multi-bootstrap)",
    QUESTIONS: "drawn are whole articles of questions; how seeds would move it is not known",
    ONE_SIDED: "drawn are whole articles of questions and the seeds of the side that has several",
    SEEDS: "Student's t over seeds; how other test data would move it is not known",
    FOLDS: "Student's t over the folds of one seed",
    NOTHING: "one run: no interval",
    OTHER_FOLDS: "no interval: no seed has all folds",
}
_MOST_LISTED = 8  # settings in a note
_SAID = {
    ONE_SEED: "⚠ one seed",
    ONE_PRETRAINING: "⚠ one pretraining seed",
    NO_SPREAD: "⚠ no spread to test against",
    SOME_FOLDS: "⚠ only on folds that all seeds have",
    SAME_MODEL: "⚠ of one pretrained model",
    UNPAIRED: "⚠ seeds are not paired",
}
_MARKS = "* below 0.05, ** below 0.01, *** below 0.001, after correction."
_EXPLAINED = {
    ONE_SEED: "One seed: no test. Another seed of the same settings may move the score by more than this difference.",
    ONE_PRETRAINING: "One pretraining seed: no test. Seeds of fine-tuning alone were repeated, not what the arms "
    "differ in; the interval lacks what another pretraining would do.",
    UNPAIRED: "Not paired: the two sides have other seeds, and each one's are drawn on their own.",
    SAME_MODEL: "Of one pretrained model: both sides began with the same weights, and the test holds for those.",
}


@dataclass(frozen=True)
class Scored:
    """A table with what was worked out for it."""

    table: Table
    scores: dict[tuple[Group, str], Score]  # by group and key of measure
    contrasts: Sequence[Contrast]

    def score(self, group: Group, measure: Measure) -> Score:
        """Of a group of the table."""
        return self.scores[group, measure.key]


def score_table(table: Table, baseline: Sequence[str], answers: Answers, turned: bool = False) -> Scored:
    """Work out means, intervals and, with a baseline, differences; turned: the baseline's from every other group."""
    at_hand = answers if table.has_answers() else None
    scores = {(g, m.key): score(g, m, table.folds, at_hand) for g in table.groups for m in table.measures}
    return Scored(table, scores, contrasts(table, baseline, at_hand, turned) if baseline else ())


def title_of(table: Table) -> str:
    """The task and what it was measured on, which belongs to every score."""
    several = "s" if len(table.folds) > 1 else ""
    folds = f", fold{several} {listed(table.folds)}" if has_folds(table) else ""
    return f"{table.title}: {table.protocol}{folds}" if table.protocol else table.title


def scores_sheet(scored: Scored) -> Sheet:
    """A row for each group: settings, runs, seeds, folds, mean ± spread, interval."""
    table = scored.table
    first = ["run"] if table.of_single_runs() else [] if table.columns else ["runs of"]
    head = [*first, *table.columns]
    rows = []
    sources = list(dict.fromkeys(scored.score(g, m).source for g in table.groups for m in table.measures))
    letters = _letters([source for source in sources if source not in (NOTHING, OTHER_FOLDS)])
    for group in table.groups:
        named = [Cell(group.cells[key], note=str(group.settings.get(key))) for key in table.columns]
        row = [*([Cell(group.name)] if first else []), *named]
        for measure in table.measures:
            found = scored.score(group, measure)
            interval = _interval(found.low, found.high, measure)
            letter = letters.get(found.source, "") if interval else ""
            row.append(Cell(_mean(found, measure), found.mean))
            row.append(Cell(interval + letter, note=_SOURCES[found.source]))
        seeds = list(group.units())
        row.append(Cell(str(len(group.runs)), len(group.runs)))
        row.append(_seeds(scored, group, seeds) if group.is_seeded() else Cell("–"))
        row += [Cell(_folds(group), len({run.fold for run in group.runs}))] if has_folds(table) else []
        rows.append(row)
    for measure in table.measures:
        head += [measure.title, "95 % interval"]
    head += ["runs", "seeds", *(["folds"] if has_folds(table) else [])]
    notes = [f"Intervals{letter}: {_SOURCES[source]}." for source, letter in letters.items()]
    if any(found.spread is not None for found in scored.scores.values()):
        notes += ["± is the sample standard deviation over seeds."]
    if table.further:
        more = len(table.further) - _MOST_LISTED
        said = ", ".join(table.further[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
        notes += [f"Rows differ in these, too: {said}; see the settings."]
    intro = (
        "Not to be compared with scores of another protocol." if table.protocol else "As the runs themselves scored it."
    )
    texts = len(first) + len(table.columns)
    return without_empty_columns(Sheet(title_of(table), head, rows, [intro], notes, texts))


def _seeds(scored: Scored, group: Group, seeds: Sequence[object]) -> Cell:
    """How many there are, and how many of them the scores are of where that is fewer."""
    used = min((scored.score(group, m).units for m in scored.table.measures), default=len(seeds))
    text = str(len(seeds)) if used == len(seeds) else f"{used} of {len(seeds)}"
    return Cell(text, used, note=listed(seeds))


def _letters(sources: Sequence[str]) -> dict[str, str]:
    """A mark for each source of intervals, where there are several."""
    return {source: f" ({chr(97 + number)})" if len(sources) > 1 else "" for number, source in enumerate(sources)}


def has_folds(table: Table) -> bool:
    """Whether its runs are of cross-validation."""
    return any(fold is not None for fold in table.folds)


def _folds(group: Group) -> str:
    return listed(sorted({run.fold for run in group.runs if run.fold is not None}))


def listed(values: Iterable[object]) -> str:
    """Values in one line."""
    return ", ".join("–" if value is None else str(value) for value in values)


def _mean(found: Score, measure: Measure) -> str:
    if found.mean is None:
        return "not measured"
    mean = measure.shown(found.mean)
    return mean if found.spread is None else f"{mean} ± {measure.shown(found.spread)}"


def _interval(low: float | None, high: float | None, measure: Measure, sign: str = "") -> str:
    if low is None or high is None:
        return ""
    return f"{measure.shown(low, sign)} to {measure.shown(high, sign)}"


def contrasts_sheet(scored: Scored) -> Sheet | None:
    """A row for each difference from the baseline; None without one."""
    if not scored.contrasts:
        return None
    table = scored.table
    rows = []
    for one in scored.contrasts:
        rows.append(
            [
                Cell(one.group.label, note=one.group.name), Cell(one.measure.title),
                Cell(one.measure.shown(one.difference, "+") + one.marks, one.difference, note=_apart(table, one)),
                Cell(_interval(one.low, one.high, one.measure, "+")),
                Cell(p_value(one.p), one.p), Cell(p_value(one.corrected), one.corrected),
                Cell("; ".join([one.source, *_said(one)])),
                Cell(one.baseline.label, note=one.baseline.name),
            ]
        )  # fmt: skip
    tested = sum(one.p is not None for one in scored.contrasts)
    used = {one.source for one in scored.contrasts}
    notes = named_by(table)
    notes += [f"{source}: {text}." for source, text in _SOURCES.items() if source in used - {NOTHING}]
    if tested:
        notes.append(f"Holm: corrected for all {tested} comparisons of this table that are tested. {_MARKS}")
    notes += [text for key, text in _EXPLAINED.items() if any(key in one.warnings for one in scored.contrasts)]
    head = ["runs", "measure", "difference", "95 % interval", "p", "p (Holm)", "from", "baseline"]
    return without_empty_columns(Sheet(f"Differences, {title_of(table)}", head, rows, notes=notes, texts=2))


def named_by(table: Table) -> list[str]:
    """What labels of groups are made of, as a note; [] where each is the name of a run."""
    return [] if table.of_single_runs() else [f"Named by {' · '.join(table.columns)}."]


def trends_sheet(table: Table, key: str, trends: Sequence[Trend]) -> Sheet | None:
    """A row for each difference along a setting; None without one."""
    if not trends:
        return None
    rows = []
    for one in trends:
        low, high = (None, None) if one.found is None else (one.found.low, one.found.high)
        levels = "; ".join(f"{level:g}: {one.measure.shown(found.difference, '+')}" for level, found in one.levels)
        rows.append(
            [
                Cell(one.label), Cell(one.measure.title), Cell(levels),
                Cell(one.measure.shown(one.slope, "+") + significance_marks(one.corrected), one.slope),
                Cell(_interval(low, high, one.measure, "+")),
                *(Cell(p_value(p), p) for p in (one.p, one.corrected)),
                Cell("; ".join(_SAID[warning] for warning in one.warnings)), Cell(one.baseline),
            ]
        )  # fmt: skip
    along = [name for name in goes_along(table, key) if name != key]
    tested = sum(one.p is not None for one in trends)
    notes = [
        "A doubling adds: the slope of a straight line through the differences, each as much as the others, over the "
        "setting's logarithm; drawn as differences are, with the same articles at all levels.",
        *([f"Along with it goes {listed(along)}."] if along else []),
        *([f"Holm: corrected for all {tested} trends of this table, and for no other one. {_MARKS}"] if tested else []),
        *(text for why, text in _EXPLAINED.items() if any(why in one.warnings for one in trends)),
    ]
    head = [
        "runs",
        "measure",
        "differences",
        "a doubling adds",
        "95 % interval",
        "p",
        "p (Holm)",
        "to mind",
        "baseline",
    ]
    title = f"Differences along {key}, {title_of(table)}"
    return without_empty_columns(Sheet(title, head, rows, notes=notes, texts=3))


def breakdown_sheet(table: Table, key: str, parts: Sequence[Part], annotator: str) -> Sheet | None:
    """A row for each difference on each part of the questions; None without one.

    annotator: the name of the one that said which answers are entities.
    """
    if not parts:
        return None
    rows = []
    for one in parts:
        contrast, found = one.contrast, one.found
        measure = contrast.measure
        low, high = (None, None) if found is None else (found.low, found.high)
        said = _said(contrast)
        exact = measure is EXACT
        rows.append(
            [
                Cell(contrast.group.label, note=contrast.group.name), Cell(one.name), Cell(measure.title),
                Cell(f"{one.questions:,}", one.questions), Cell(measure.shown(one.score), one.score),
                Cell(measure.shown(one.difference, "+") + significance_marks(one.corrected), one.difference),
                Cell(_interval(low, high, measure, "+")),
                *(Cell(p_value(p), p) for p in (one.p, one.corrected)), Cell("; ".join(said)),
                *(Cell(f"{share:.1f}", share) if exact else Cell("") for share in (one.mended, one.made)),
                Cell(contrast.baseline.label, note=contrast.baseline.name),
            ]
        )  # fmt: skip
    head = ["runs", BREAKDOWNS[key], "measure", "questions", "baseline's", "difference", "95 % interval"]
    head += ["p", "p (Holm)", "to mind", "mended (%)", "made (%)", "baseline"]
    notes = [
        *_notes_of_breakdown(key, parts, annotator),
        "Intervals are drawn as in the table of differences; there is none for parts that chance moves in no way that "
        "can be seen here.",
        "Mended: of the part's questions, the percentage that is exactly right in the row's runs and not in the "
        "baseline's, the mean over all pairs of runs; made: the reverse.",
    ]
    return without_empty_columns(
        Sheet(f"Differences by {BREAKDOWNS[key]}, {title_of(table)}", head, rows, notes=notes, texts=3)
    )


def answered_sheet(table: Table, key: str, shares: Sequence[Share], annotator: str) -> Sheet | None:
    """A row for each difference in how much of what is answered is of a part; None without one."""
    if not shares:
        return None
    rows = []
    for one in shares:
        low, high = (None, None) if one.found is None else (one.found.low, one.found.high)
        contrast, difference = one.contrast, one.ours - one.theirs
        rows.append(
            [
                Cell(contrast.group.label, note=contrast.group.name), Cell(one.name),
                *(Cell(f"{share:.1f}", share) for share in (one.gold, one.theirs, one.ours)),
                Cell(EXACT.shown(difference, "+") + significance_marks(one.corrected), difference),
                Cell(_interval(low, high, EXACT, "+")),
                *(Cell(p_value(p), p) for p in (one.p, one.corrected)), Cell("; ".join(_said(contrast))),
                Cell(contrast.baseline.label, note=contrast.baseline.name),
            ]
        )  # fmt: skip
    head = ["runs", BREAKDOWNS[key], "gold (%)", "baseline's (%)", "answered (%)", "difference", "95 % interval"]
    head += ["p", "p (Holm)", "to mind", "baseline"]
    notes = [
        *_notes_of_breakdown(key, shares, annotator),
        "In percent of all questions, whether answered rightly or wrongly.",
        "Intervals are drawn as in the table of differences; there is none where nobody answers so.",
    ]
    return without_empty_columns(
        Sheet(f"What is answered, by {BREAKDOWNS[key]}, {title_of(table)}", head, rows, notes=notes, texts=2)
    )


def _notes_of_breakdown(key: str, compared: Sequence[Part | Share], annotator: str) -> list[str]:
    """For how many comparisons p-values are corrected, and whose entities are asked for."""
    tested = sum(one.corrected is not None for one in compared)
    notes = [f"Holm: corrected for all {tested} comparisons of this table, and of no other one."] if tested else []
    return notes + ([f"Entities are those that {annotator} finds, as it is today."] if key in OF_ENTITIES else [])


def _said(contrast: Contrast) -> list[str]:
    return [_SAID[warning] for warning in contrast.warnings]


def _apart(table: Table, one: Contrast) -> str:
    """In what the two groups differ."""
    keys = [k for k in (*table.columns, *table.further) if one.group.settings.get(k) != one.baseline.settings.get(k)]
    return f"they differ in {', '.join(keys)}"


def p_value(value: float | None) -> str:
    """A p-value for people to read, "" for none."""
    return "" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
