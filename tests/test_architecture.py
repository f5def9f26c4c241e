"""The structure that README shows, kept true: which part may import which, and what is imported only when used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# What transformers imports from an exported folder is not imported by korbert.
FOR_OTHERS = {REPOSITORY / "korbert" / "export" / "modeling_korbert.py"}
LIBRARY = sorted(set((REPOSITORY / "korbert").rglob("*.py")) - FOR_OTHERS)
DOORS = sorted((REPOSITORY / "experiments").glob("*.py"))
# A module may import from its own layer's group and from layers further down.
LAYERS = [
    {"experiments"},
    {"korbert.tasks"},
    {"korbert.export", "korbert.demo"},
    {"korbert.api", "korbert.tagger", "korbert.prediction", "korbert.__init__"},
    {"korbert.config"},
    {"korbert.study", "korbert.training", "korbert.comparison"},
    {"korbert.data", "korbert.metrics"},
    {"korbert.model"},
    {"korbert.encoding"},
    {"korbert.entities"},
    {"korbert.tokenizers"},
    {"korbert.morphology"},
    {"korbert.sentences"},
    {"korbert.text", "korbert.files", "korbert.lines", "korbert.josa", "korbert.parallel", "korbert.redaction"},
    {"korbert.errors"},
]
LAZY = {
    "konlpy",
    "kiwipiepy",
    "mecab",
    "mecab_ko",
    "wandb",
    "transformers",
    "tokenizers",
    "datasets",
    "jpype",
    "matplotlib",
    "jinja2",
    "markupsafe",
    "ahocorasick_rs",
    "mwxml",
    "mwparserfromhell",
    "pyarrow",
    "rensa",
    "backports",
    "scipy",
    "tensorboard",
}


def name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def layer(module: str) -> int:
    for number, group in enumerate(LAYERS):
        if any(module == member or module.startswith(f"{member}.") for member in group):
            return number
    raise AssertionError(f"{module} belongs to no layer: add it to LAYERS and to README's picture")


def imports(node: ast.AST) -> Iterator[str]:
    """Absolute names that a tree imports, wherever the import stands; type-only imports too."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide the direction"
            module = child.module or ""
            inside = REPOSITORY / Path(*module.split("."))
            for alias in child.names:
                is_module = (inside / alias.name).is_dir() or (inside / f"{alias.name}.py").is_file()
                yield f"{module}.{alias.name}" if is_module else module


@pytest.mark.parametrize("path", [*LIBRARY, *DOORS], ids=name)
def test_imports_point_one_way(path: Path) -> None:
    module = name(path)
    own = layer(module)
    for target in imports(ast.parse(path.read_text("utf-8"))):
        if target.startswith("korbert"):
            assert layer("korbert.__init__" if target == "korbert" else target) >= own, f"{module} imports {target}"


@pytest.mark.parametrize("path", [p for p in LIBRARY if p.parent.name == "model"], ids=name)
def test_the_model_knows_only_torch_and_itself(path: Path) -> None:
    for target in imports(ast.parse(path.read_text("utf-8"))):
        allowed = ("torch", "korbert.model", "korbert.errors", "__future__", "dataclasses", "collections", "typing")
        assert target.startswith((*allowed, "math", "importlib")), target


@pytest.mark.parametrize("path", [*LIBRARY, *DOORS], ids=name)
def test_heavy_packages_are_imported_at_the_point_of_use(path: Path) -> None:
    for statement in ast.parse(path.read_text("utf-8")).body:
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.If):
            assert not {target.split(".")[0] for target in imports(statement)} & LAZY


@pytest.mark.slow
def test_everything_imports_without_the_heavy_packages() -> None:
    """As on a GPU machine that has only torch and Hydra."""
    modules = [name(path).removesuffix(".__init__") for path in LIBRARY]
    code = f"import sys, importlib; sys.modules.update(dict.fromkeys({sorted(LAZY)!r}))\n"
    code += f"for module in {modules!r}: importlib.import_module(module)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.slow
def test_torch_is_imported_by_what_computes_with_it() -> None:
    """It takes seconds, and its compiler as long again: typos, scores and all that build a corpus would wait for it."""
    tasks = [f"tasks.{task}" for task in ("build_corpus", "annotate", "evaluate", "records")]
    without = ["metrics", "config", "encoding", *tasks]
    code = "import sys, importlib\n"
    code += f"for module in {without!r}: importlib.import_module(f'korbert.{{module}}')\n"
    code += "assert 'torch' not in sys.modules\n"
    code += "import korbert.tasks.pretrain, korbert.tasks.finetune, korbert.api\n"
    code += "assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize("path", DOORS, ids=name)
def test_doors_are_thin(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 60


def test_readme_shows_every_module() -> None:
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    for path in [*LIBRARY, *DOORS]:
        if path.name != "__init__.py":
            assert re.search(rf"\b{path.stem}\b", readme), f"README's picture of the layout lacks {name(path)}"
    for folder in sorted(p.name for p in (REPOSITORY / "conf").iterdir() if p.is_dir()):
        assert folder in readme, f"README does not mention conf/{folder}"
