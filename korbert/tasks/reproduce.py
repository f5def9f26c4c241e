"""Published KorQuAD scores beside those that the same models get here, over seeds."""

from __future__ import annotations

import logging
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from korbert.config import ReproduceConfig, as_override, as_overrides, compose_config
from korbert.errors import ConfigError, KorbertError, check_all_known
from korbert.files import RECORD, write_json_atomically, write_text_atomically
from korbert.study.page import table
from korbert.tasks.finetune import finetune_korquad

_TABLE = "reproduce.md"
_COLUMNS = ["recipe", "published EM / F1", "EM (%)", "F1 (%)", "seeds", "scored on"]
log = logging.getLogger(__name__)


def reproduce(config: ReproduceConfig) -> list[dict[str, Any]]:
    """Run every recipe with every seed that is not finished yet; show, write and return the table.

    A run that fails, for want of a network, say, is named with the reason, and the others go on. Raises ConfigError for
    a recipe without an entry under `published`, KorbertError where not one run could be made.
    """
    check_all_known("recipes", config.recipes, config.published, cutoff=0.4)
    if not config.recipes:
        raise ConfigError(f"recipes: wanted some of {', '.join(config.published)}, got []")
    if not config.seeds:
        raise ConfigError("seeds: wanted one or more, got []")
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    runs = {(r, s): folder / f"{r}-seed{s}" for r in config.recipes for s in config.seeds}
    found: dict[tuple[str, int], dict[str, Any]] = {}
    finished = [name for name, run in runs.items() if (run / RECORD).exists()]
    for recipe, seed in sorted(runs, key=lambda name: name not in finished):
        run = runs[recipe, seed]
        shared = [*as_overrides("data", config.data), *as_overrides("runtime", config.runtime)]
        chosen = [
            f"experiment={recipe}",
            *config.overrides,
            *shared,
            f"seed={seed}",
            as_override("run_dir", str(run)),
        ]
        try:
            record = finetune_korquad(compose_config("finetune_korquad", chosen))  # one that is finished is read
            found[recipe, seed] = record["results"]
        except KorbertError as error:
            failures[f"{recipe}, seed {seed}"] = str(error)
            log.warning("%s, seed %d: %s", recipe, seed, error)
        if (recipe, seed) not in finished:
            _write(folder, config, found, failures)
    rows = _write(folder, config, found, failures)
    if not any(row["seeds"] for row in rows):
        raise KorbertError("; ".join(_reasons(failures)))
    return rows


def _write(
    folder: Path, config: ReproduceConfig, found: dict[tuple[str, int], dict[str, Any]], failures: dict[str, str]
) -> list[dict[str, Any]]:
    """Show and write what there is so far."""
    rows = [
        _row(
            recipe, config.published[recipe], [found[recipe, seed] for seed in config.seeds if (recipe, seed) in found]
        )
        for recipe in config.recipes
    ]
    cells = [_cells(row) for row in rows]
    shown = Table(*(Column(name, no_wrap=name == _COLUMNS[0]) for name in _COLUMNS))
    for line in cells:
        shown.add_row(*line)
    Console(stderr=True, markup=False).print(shown)
    lines = [
        "# Published scores and those of korbert's runs", "",
        "Mean and standard deviation over seeds; official KorQuAD 1.0 metric. Only scores on the whole dev file after "
        "training on the whole training file can be compared with published ones.", "",
        *table(_COLUMNS, cells), *(f"- {reason}" for reason in _reasons(failures)),
    ]  # fmt: skip
    write_text_atomically(folder / _TABLE, "\n".join(lines).rstrip() + "\n")
    write_json_atomically(folder / "reproduce.json", {"rows": rows, "failures": failures})
    return rows


def _reasons(failures: dict[str, str]) -> list[str]:
    """Why runs failed, each reason once, with whose it is."""
    whose: dict[str, list[str]] = {}
    for name, why in failures.items():
        whose.setdefault(why, []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in whose.items()]


def _row(recipe: str, published: Any, results: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "published": published,
        "exact_match": [result["exact_match"] for result in results],
        "f1": [result["f1"] for result in results],
        "seeds": len(results),
        "protocol": " | ".join(sorted({result["protocol"] for result in results})),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    published = row["published"]
    said = f"{published['exact_match']:.2f} / {published['f1']:.2f}" if published else "none known"
    return [row["recipe"], said, _spread(row["exact_match"]), _spread(row["f1"]), str(row["seeds"]), row["protocol"]]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean} (one seed)"
