"""The schema of the report on finished runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from korbert.config.parts import DataConfig
from korbert.errors import ConfigError, check_all_known

REPORT_SECTIONS = ("scores", "differences", "tokenizers", "curves", "cost")


@dataclass
class ReportConfig:
    """`experiments/report.py`. runs: folders to search for runs and pages, and pages' .jsonl files, or
    patterns such as runs/size_*; folder: the output.

    where: conditions that a run has to meet, as of `experiments/runs.py`, on its settings and results; null: all runs.
    baseline: what every other group is compared with: `key:value`, a list of those, or a run's name. focus: instead,
    the group that is compared with every other one: its score less theirs. comparison: the folder of a comparison of
    tokenizers, for scores against fertility and ceiling. data.root: where question files lie, else where the runs had
    them. breakdowns: kinds of questions to look at each difference by, see `korbert.study.errors.BREAKDOWNS`;
    annotator: says which answers are entities, and of what type; null: that of the runs. trends: settings with numbers,
    such as model.hidden_size: does each difference grow or fade along them? sections: of REPORT_SECTIONS,
    those to show beside the list of runs: a page of several baselines needs the same scores and curves once.
    """

    runs: list[str] = field(default_factory=lambda: ["experiments/results"])
    where: str | None = None
    folder: str = "runs/report"
    title: str = "Report"
    baseline: Any = None
    focus: Any = None
    comparison: str | None = None
    breakdowns: list[str] = field(default_factory=list)
    annotator: str | None = None
    trends: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=lambda: list(REPORT_SECTIONS))
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        check_all_known("sections", self.sections, REPORT_SECTIONS)
        if "differences" not in self.sections and (self.trends or self.breakdowns):
            raise ConfigError("trends and breakdowns are of differences, which sections leaves out")
        if not self.sections:
            raise ConfigError("sections: wanted one or more, got []")

    def compared(self) -> list[str]:
        """The parts of baseline or focus, [] without one. Raises ConfigError for both, and for what is no text."""
        if self.baseline is not None and self.focus is not None:
            raise ConfigError("baseline and focus: wanted one of them, got both")
        key, given = ("baseline", self.baseline) if self.focus is None else ("focus", self.focus)
        parts = given if isinstance(given, list) else [] if given is None else [given]
        for part in parts:
            if not isinstance(part, str) or not part:
                raise ConfigError(f"{key}: wanted key:value, or the name of a run, got {part!r}")
        return parts
