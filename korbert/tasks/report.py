"""Finished runs → one report: tables with intervals and p-values, plots, costs, as Markdown, LaTeX and a page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path

from korbert.comparison.figures import Row
from korbert.config import (
    REPORT_SECTIONS,
    BaselineConfig,
    FinetuneConfig,
    PredictConfig,
    PretrainConfig,
    ReportConfig,
    TaggerConfig,
    expand_root,
)
from korbert.entities import RANDOM, make_annotator
from korbert.errors import ConfigError, KorbertError, check_all_known
from korbert.files import RECORD, matching, write_text_atomically
from korbert.study import report_plots as plots
from korbert.study import report_runs as described
from korbert.study import report_sheets as sheets
from korbert.study.answers import Answers
from korbert.study.breakdowns import Breakdowns
from korbert.study.collection import failed_jobs, find_records, unfinished_runs
from korbert.study.contrasts import Contrast, check_baseline
from korbert.study.errors import BREAKDOWNS, OF_ANSWERS, OF_ENTITIES
from korbert.study.grouping import Table, make_tables, shown
from korbert.study.html import fill_page
from korbert.study.lineage import Run, describe_runs
from korbert.study.query import check_keys, parse
from korbert.study.report_tokenizers import tokenizer_sheets
from korbert.study.sheets import Sheet, markdown_text, sheet_as_latex, sheet_as_markdown
from korbert.study.svg import as_file
from korbert.study.trends import Trend, check_trends, trends
from korbert.tasks.compare import read_rows

_TEMPLATE = Path(sheets.__file__).with_name("report.html")
_SCHEMAS: dict[str, type] = {
    "pretrain": PretrainConfig,
    "finetune_korquad": FinetuneConfig,
    "predict_korquad": PredictConfig,
    "lexical_baseline": BaselineConfig,
    "train_tagger": TaggerConfig,
}
_TITLES = {
    "scores": "Scores",
    "differences": "Differences",
    "tokenizers": "Tokenizers",
    "curves": "Learning curves",
    "cost": "What it took",
}
_LATEX_HEAD = "% Needs the package booktabs, and for Korean names kotex (or XeLaTeX with a Korean font)."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """All that the three forms of the report have in common. tables, pictures: by REPORT_SECTIONS."""

    title: str
    counted: str
    summary: str
    remarks: Sequence[str]
    tables: Mapping[str, Sequence[Sheet]]
    pictures: Mapping[str, Sequence[plots.Picture]]
    runs: Sequence[Sheet]
    settings: Sequence[Sheet]
    hint: str


def make_report(config: ReportConfig) -> None:
    """Write report.md, report.tex and report.html into the folder; the same records make the same files.

    Raises ConfigError where there is no run, or no group of runs is the baseline, and DataError for damaged records.
    """
    report = build_report(config)
    folder = Path(config.folder)
    write_text_atomically(folder / "report.md", _markdown(report))
    write_text_atomically(folder / "report.tex", _latex(report))
    write_text_atomically(folder / "report.html", _html(report))
    for remark in report.remarks:
        log.warning("%s", remark)
    log.info("%s: %s", report.counted, folder / "report.html")


def build_report(config: ReportConfig) -> Report:
    """The report of `config`. Raises what `make_report` does."""
    places = _places(config)
    found = find_records(places)
    if not found:
        raise ConfigError(f"runs={config.runs}: no record.json, and no page with its .jsonl, is there")
    runs = describe_runs(found, {task: asdict(schema()) for task, schema in _SCHEMAS.items()})
    runs = _chosen(runs, config.where)
    tables = make_tables(runs)
    turned = config.focus is not None
    if compared := config.compared():
        check_baseline(tables, compared, "focus" if turned else "baseline")
    elif config.breakdowns or config.trends:
        raise ConfigError("breakdowns and trends are of differences: give a baseline, or a focus")
    check_all_known("breakdowns", config.breakdowns, BREAKDOWNS)
    check_trends(tables, config.trends)
    answers = Answers(config.data.root)
    scored = [sheets.score_table(table, compared, answers, turned) for table in tables]
    along = _along(config.trends, scored, answers)
    broken_down = _broken_down(config, scored, answers)
    rows = _rows(config)
    told = list(answers.why_not)
    return _report(config, runs, tables, scored, along, broken_down, rows, told, [*_not_counted(places)])


def _places(config: ReportConfig) -> list[str]:
    """Where to look for runs; a name that stands for nothing is kept, to be told."""
    places: list[Path] = []
    for place in config.runs:
        found = [path for path in matching(place) if path == Path(place) or _may_have_runs(path)]
        places += found or [Path(place)]
    return [*map(str, places)]


def _not_counted(places: Sequence[str]) -> Iterator[str]:
    """What is to be said of runs without a record."""
    if unfinished := unfinished_runs(places):
        yield f"begun and not finished, so not counted: {', '.join(unfinished)}"
    if failed := failed_jobs(places):
        yield f"failed, so not counted: {'; '.join(f'{name} ({why})' for name, why in failed.items())}"


def _may_have_runs(path: Path) -> bool:
    """Beside runs' folders lie other files: the store, lists of a sweep's jobs."""
    return path.is_dir() or path.suffix == ".jsonl" or path.name == RECORD


def report_part(config: ReportConfig, stem: str) -> tuple[str, dict[str, str]]:
    """The part of a result page that shows a report: Markdown, and the pictures that it links to by file name.

    stem: what their names begin with. Raises what `make_report` does.
    """
    report = build_report(config)
    lines = [f"- ⚠ {markdown_text(remark)}" for remark in report.remarks]
    lines += [""] if lines else []
    for sheet in _all_tables(report):
        lines += sheet_as_markdown(sheet, level=4)
    files = {}
    for number, picture in enumerate(chain.from_iterable(report.pictures.values()), start=1):
        name = f"{stem}-{number}.svg"
        files[name] = as_file(picture.svg)
        lines += [f"![{markdown_text(picture.title)}]({name})", ""]
        lines += [markdown_text(picture.caption), ""] if picture.caption else []
    return "\n".join(lines), files


def _report(
    config: ReportConfig,
    runs: Sequence[Run],
    tables: Sequence[Table],
    scored: Sequence[sheets.Scored],
    along: Sequence[tuple[Table, str, Sequence[Trend]]],
    broken_down: Sequence[Sheet],
    rows: Sequence[Row],
    why_not: Sequence[str],
    not_counted: Sequence[str],
) -> Report:
    in_tables = {id(run) for table in tables for group in table.groups for run in group.runs}
    left_out = [run.name for run in runs if id(run) not in in_tables]
    remarks = [*described.remarks(tables, runs), *why_not]
    if config.compared():
        remarks += described.remarks_on_differences(scored)
    remarks += not_counted
    if left_out:
        remarks.append(f"without a score of their own, in no table: {', '.join(left_out)}")
    several = [table for table in tables if len(table.groups) > 1]
    contrasts = [sheet for one in scored if (sheet := sheets.contrasts_sheet(one)) is not None]
    hint = "" if contrasts else "No other group of runs can be compared with this baseline."
    if not config.compared():
        hint = (
            f"For differences with intervals and p-values give a baseline, {_example(several[0])}." if several else ""
        )
    made: dict[str, list[Sheet | None]] = {
        "scores": [sheets.scores_sheet(one) for one in scored],
        "differences": [*contrasts, *(sheets.trends_sheet(*one) for one in along), *broken_down],
        "tokenizers": [sheet for one in scored for sheet in tokenizer_sheets(one, rows)],
        "cost": [described.cost_sheet([(table, group) for table in tables for group in table.groups])],
    }
    return Report(
        title=config.title,
        counted=f"{len(runs)} runs in {len(tables)} tables",
        summary=_summary(runs),
        remarks=remarks,
        tables={key: [one for one in made.get(key, ()) if one] for key in REPORT_SECTIONS if key in config.sections},
        pictures={
            key: drawn for key, drawn in _pictures(tables, scored, along, rows).items() if key in config.sections
        },
        runs=[described.runs_sheet(table, Path(config.folder)) for table in tables],
        settings=[sheet for table in tables if (sheet := described.settings_sheet(table)) is not None],
        hint=hint,
    )


def _chosen(runs: Sequence[Run], where: str | None) -> list[Run]:
    """Those that meet the conditions. Raises ConfigError for a key that none has, and where none is left."""
    conditions = parse(where or "")
    rows = [run.row() for run in runs]
    check_keys(rows, [condition.key for condition in conditions], f"where={where}")
    found = [run for run, row in zip(runs, rows, strict=True) if all(condition.holds(row) for condition in conditions)]
    if not found:
        raise ConfigError(f"where={where}: of {len(runs)} runs none is so")
    return found


def _along(
    keys: Sequence[str], scored: Sequence[sheets.Scored], answers: Answers
) -> list[tuple[Table, str, Sequence[Trend]]]:
    """Trends by table and key, of tables that have some. Raises ConfigError for a key along which there is none."""
    asked = [one for one in scored if one.table.has_answers()]
    found = [(one.table, key, trends(one.table, one.contrasts, key, answers)) for one, key in product(asked, keys)]
    for key in keys:
        if not any(of_key for _, named, of_key in found if named == key):
            raise ConfigError(f"trends: no difference is there at two values of {key}, all else alike")
    return [one for one in found if one[2]]


def _broken_down(config: ReportConfig, scored: Sequence[sheets.Scored], answers: Answers) -> list[Sheet]:
    several = [one for one in scored if one.table.has_answers() and one.contrasts]
    if not config.breakdowns or not several:
        return []
    name = config.annotator or "none"
    if config.annotator is None and OF_ENTITIES & {*config.breakdowns}:
        name = _annotator_of_runs([contrast for one in several for contrast in one.contrasts])
    try:
        annotator = make_annotator(expand_root(name, config.data), None, config.data.cache)
    except KorbertError as error:
        if config.annotator is not None:
            raise
        answers.tell(f"nothing is broken down: the annotator of the runs is not at hand ({error})")
        return []
    found, made = Breakdowns(answers, annotator), list[Sheet | None]()
    for one, key in product(several, config.breakdowns):
        made.append(sheets.breakdown_sheet(one.table, key, found.parts(one.table, one.contrasts, key), name))
        shares = found.shares(one.table, one.contrasts, key) if key in OF_ANSWERS else []
        made.append(sheets.answered_sheet(one.table, key, shares, name))
    return [sheet for sheet in made if sheet is not None]


def _annotator_of_runs(contrasts: Sequence[Contrast]) -> str:
    """The one whose entities the compared runs mark, or random spans in their place; else that of plain runs.

    Raises ConfigError where there are several, or there is none.
    """
    every = [group.settings for one in contrasts for group in (one.group, one.baseline)]
    marked = [settings for settings in every if settings.get("entities.mode") not in (None, "none")]
    found: list[str] = []
    for those in (marked, every):
        names = {str(settings.get("entities.annotator") or "none").removeprefix(RANDOM) for settings in those}
        found = found or sorted(names - {"none", "inherit"})
    if len(found) != 1:
        there = f"the runs have {' and '.join(found)}" if found else "the runs have none"
        raise ConfigError(f"annotator: {there}; which one says which answers are entities, and of what type?")
    return found[0]


def _example(table: Table) -> str:
    """How its first group is named as the baseline."""
    group = table.groups[0]
    if table.of_single_runs():
        return f"such as baseline={group.name}"
    return f"such as baseline={table.columns[-1]}:{shown(group.settings.get(table.columns[-1]))}"


def _summary(runs: Sequence[Run]) -> str:
    records = [run.found.record for run in runs]
    dates = sorted({str(record.get("date", ""))[:10] for record in records} - {""})
    commits = sorted({described.commit_of(run) for run in runs})
    devices = sorted({described.device_of(run) for run in runs})
    when = f"{dates[0]} to {dates[-1]}" if len(dates) > 1 else "".join(dates)
    return (
        f"{len(runs)} runs, {when}, on {', '.join(devices)}; commits {', '.join(commits)}. "
        "Every number comes from a run's record; its command is in the table of runs."
    )


def _rows(config: ReportConfig) -> list[Row]:
    """Of the comparison of tokenizers, [] without one."""
    if config.comparison is None:
        return []
    return list(read_rows(Path(config.comparison) / "results.jsonl", must_exist=True).values())


def _pictures(
    tables: Sequence[Table],
    scored: Sequence[sheets.Scored],
    along: Sequence[tuple[Table, str, Sequence[Trend]]],
    rows: Sequence[Row],
) -> dict[str, list[plots.Picture]]:
    forests = [plots.forest_picture(one, f"forest{number}") for number, one in enumerate(scored)]
    lines = [plots.trend_pictures(*one, f"trend{number}") for number, one in enumerate(along)]
    return {
        "differences": [*(picture for picture in forests if picture is not None), *chain.from_iterable(lines)],
        "tokenizers": plots.tokenizer_pictures(scored, rows),
        "curves": plots.curve_pictures(tables),
    }


def _html(report: Report) -> str:
    shown = [key for key in _TITLES if report.tables.get(key) or report.pictures.get(key)]
    return fill_page(_TEMPLATE, **vars(report), titles={key: _TITLES[key] for key in shown})


def _markdown(report: Report) -> str:
    lines = [f"# {markdown_text(report.title)}", "", markdown_text(report.summary), ""]
    lines += [*(f"- ⚠ {markdown_text(remark)}" for remark in report.remarks), *([""] if report.remarks else [])]
    parts = {_TITLES[key]: of_part for key, of_part in report.tables.items()} | {"Runs": report.runs}
    for name, of_part in parts.items():
        if of_part:
            lines += [f"## {name}", ""]
            lines += [line for sheet in of_part for line in sheet_as_markdown(sheet)]
        if name == _TITLES["scores"] and report.hint:
            lines += [markdown_text(report.hint), ""]
    return "\n".join(lines).rstrip() + "\n"


def _latex(report: Report) -> str:
    return "\n".join([_LATEX_HEAD, "", *(line for sheet in _all_tables(report) for line in sheet_as_latex(sheet))])


def _all_tables(report: Report) -> list[Sheet]:
    return [sheet for of_part in report.tables.values() for sheet in of_part]
