"""The schema of the report on finished runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from korbert.config.parts import DataConfig
from korbert.errors import ConfigError


@dataclass
class ReportConfig:
    """`experiments/report.py`. runs: folders to search for runs and pages, and pages' .jsonl files; folder: the output.

    baseline: what every other group is compared with: `key:value`, a list of those, or a run's name. comparison: the
    folder of a comparison of tokenizers, for scores against fertility and ceiling. data.root: where question files lie,
    else where the runs had them. breakdowns: kinds of questions to look at each difference by, see
    `korbert.study.errors.BREAKDOWNS`; annotator: says which answers are entities, and of what type.
    """

    runs: list[str] = field(default_factory=lambda: ["experiments/results"])
    folder: str = "runs/report"
    title: str = "Report"
    baseline: Any = None
    comparison: str | None = None
    breakdowns: list[str] = field(default_factory=list)
    annotator: str = "expressions-mecab+mecab"
    data: DataConfig = field(default_factory=DataConfig)

    def baselines(self) -> list[str]:
        """The parts of the baseline, [] without one. Raises ConfigError for what is no text."""
        parts = self.baseline if isinstance(self.baseline, list) else [] if self.baseline is None else [self.baseline]
        for part in parts:
            if not isinstance(part, str) or not part:
                raise ConfigError(f"baseline: wanted key:value, or the name of a run, got {part!r}")
        return parts
