"""Finished runs → the committed records and the page that shows them."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korbert.config import PublishConfig, ReportConfig, as_override
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import PREDICTIONS, RECORD, SESSIONS, plain_name, read_json, read_text, under, write_text_atomically
from korbert.lines import json_line
from korbert.study.answers import QuestionScores, question_file, scored_dataset
from korbert.study.collection import QUESTION_SCORES, read_metrics, read_record, read_records
from korbert.study.page import check_marks, curve, draw, render, replace_records, replace_reports, report_settings
from korbert.tasks.report import report_part
from korbert.training.settings import differences

log = logging.getLogger(__name__)
_ELSEWHERE = ("run_dir", "data", "runtime", "tracker")  # settings that make no other run of it


def publish_results(config: PublishConfig) -> None:
    """Add `runs` to PAGE.jsonl (one that is there is replaced); write what is made of PAGE.md, and its pictures.

    PAGE.svg, with all curves, is drawn for a page that links to it.

    A folder of runs, such as a sweep's, or of sweeps, stands for all finished ones in it, however deep; a run of
    several stages for those, the last under its own name; what else lies in a run's folder is a part of it. Files that
    a run made for its readers are copied beside the page. Of answers the page keeps the scores of each question, so
    that a report of it can draw questions, too, and their places; where the question file is not at hand it says so.
    A page without records of its own has reports of other pages' alone.
    Raises ConfigError for two runs of one name, also where the page has one of other settings, unless `replace` says
    that this one takes its place.
    """
    folder = Path(config.folder)
    page, store = folder / f"{config.page}.md", folder / f"{config.page}.jsonl"
    records = read_records(store) if store.exists() else {}
    taken: dict[str, Path] = {}
    for place in config.runs:
        for name, run in _runs(Path(place)):
            if read_json(taken.setdefault(name, run) / RECORD) != read_json(run / RECORD):
                raise ConfigError(
                    f"runs: {taken[name]} and {run} would both be {name!r} on the page; publish one of them, or rename "
                    "a folder"
                )
            record = {"name": name, **_record(run, config.data.root)}
            if name in records and not config.replace:
                _refuse_other_run(page, records[name], record)
            records[name] = record
            for own in records[name].get("files", []):
                write_text_atomically(page.parent / own, read_text(_own_file(run, own)))
    text = read_text(page)
    check_marks(page, text, has_records=bool(records))  # before anything is written
    if records:
        write_text_atomically(store, "".join(map(json_line, records.values())))
    text, pictures = made_again(page, text, store, config.data.root)
    for name, picture in pictures.items():
        write_text_atomically(page.parent / name, picture)
    write_text_atomically(page, text)
    for old in page.parent.glob(f"{page.stem}-report*.svg"):
        if old.name not in pictures:  # of a report that is not made any more
            old.unlink()
    drawing = page.with_suffix(".svg")
    if f"({drawing.name})" in text:
        draw(drawing, list(records.values()))
    else:
        drawing.unlink(missing_ok=True)
    log.info("%s: %d records", page, len(records))


def made_again(page: Path, text: str, store: Path, root: str | None) -> tuple[str, dict[str, str]]:
    """A page's text with the parts that are made of its records, and the pictures of its reports by file name.

    Raises DataError for a report that cannot be, and what `make_report` raises for damaged records.
    """
    if store.exists():
        text = replace_records(page, text, render(list(read_records(store).values())))
    parts = [_report_part(page, store, n, asked, root) for n, asked in enumerate(report_settings(page, text), start=1)]
    return replace_reports(text, [made for made, _ in parts]), {k: v for _, files in parts for k, v in files.items()}


def _report_part(
    page: Path, store: Path, number: int, settings: list[str], root: str | None
) -> tuple[str, dict[str, str]]:
    """What a page shows of a report of its records, or of `runs`, its command first, and the pictures of it."""
    mark = f"<!-- report: {' '.join(settings)} -->"
    try:
        asked = OmegaConf.from_dotlist(settings)
        report = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ReportConfig), asked))
        assert isinstance(report, ReportConfig)
        own = [] if "runs" in asked else [as_override("runs", [store.as_posix()])]
        if own:
            report.runs = [str(store)]
        report.data.root = root
        made, pictures = report_part(report, f"{page.stem}-report{number}")
    except (ConfigError, OmegaConfBaseException) as error:
        raise DataError(page, mark, str(error).splitlines()[0]) from error
    overrides = " ".join(map(shlex.quote, [*own, *settings]))
    return f"```\npython experiments/report.py {overrides}\n```\n\n{made}", pictures


def _runs(place: Path) -> Iterator[tuple[str, Path]]:
    """Names and folders of the finished runs of a place, with a word on those that are not finished."""
    path = place / RECORD
    if not path.exists():
        jobs = _outermost({found.parent for name in (RECORD, SESSIONS) for found in under(place, name)})
        finished = [job for job in jobs if (job / RECORD).exists()]
        if not finished:
            raise DataError(path, "file", "not found: only a finished run can be published")
        for job in finished:
            yield from _runs(job)
        for job in jobs:
            if job not in finished:
                log.warning("%s: begun and not finished, so not published", job)
        return
    stages = read_json(path).get("stages") or ["."]
    for stage in stages:
        own = not Path(stage).is_absolute() and (place / stage / RECORD).exists()
        folder = place / stage if own else Path(stage)
        if not (folder / RECORD).exists():
            raise DataError(path, "stages", f"{stage} has no record here: start this where the run was started")
        yield place.name if own else folder.name, folder


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Those that lie in no other one of them, in order."""
    found: dict[Path, None] = {}
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        if found.keys().isdisjoint(folder.parents):
            found[folder] = None
    return sorted(found)


def _refuse_other_run(page: Path, kept: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raise ConfigError where the run that a page has under a name is not the same one, made again."""
    old, new = ({k: v for k, v in one.get("config", {}).items() if k not in _ELSEWHERE} for one in (kept, record))
    if changed := differences(old, new, shared=True):  # one of them may be older than some settings
        date = str(kept.get("date"))[:10]
        raise ConfigError(
            f"runs: {page.name} has another run of the name {record['name']!r}, of {date}; rename the folder, or give "
            f"replace=true: {'; '.join(changed)}"
        )


def _own_file(run: Path, name: object) -> Path:
    """A file of the run's own folder, for a name in its record: no other file of this machine is published."""
    path = run / plain_name(run / RECORD, "files", name)
    if not path.resolve().is_relative_to(run.resolve()):
        raise DataError(path, "file", f"is a link to {path.resolve()}, outside of the run's folder")
    return path


def _record(run: Path, root: str | None) -> dict[str, Any]:
    found = read_record(run, run.name)
    assert found is not None  # looked for before
    record = dict(found.record)
    commit = str(record.get("commit", "unknown"))
    if commit.endswith("+changes") or commit == "unknown":
        raise DataError(found.path, "commit", f"is {commit!r}: publish runs of committed code only")
    return {**record, "curve": curve(read_metrics(run)), **_question_scores(run, record, root)}


def _question_scores(run: Path, record: dict[str, Any], root: str | None) -> dict[str, Any]:
    """What a page keeps of a run's answers; {} of a run without answers, or without their questions."""
    config = record.get("config", {})
    path, named = run / PREDICTIONS, config.get("task", {}).get("test")
    if not path.exists() or named is None or not record["results"].get("scored", True):
        return {}
    try:
        dataset = scored_dataset(question_file(named, config, root), config["task"].get("fold"))
    except KorbertError as error:
        log.warning("%s: the page keeps no scores of single questions: %s; give root=FOLDER", run, error)
        return {}
    return {QUESTION_SCORES: QuestionScores.of(dataset, run).kept()}
