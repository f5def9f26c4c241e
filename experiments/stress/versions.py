"""Quick tests with the oldest, or the newest, packages that pyproject.toml allows, in an environment of their own.

`make test-oldest PYTHON=python3.10` and `make test-newest PYTHON=python3.13`. The oldest are those of pyproject.toml's
lower bounds, everything that they need in turn as new as it can be (uv's lowest-direct). What was installed is
written to `.versions/KIND-PYTHON/installed.txt`; the oldest ones that passed are kept in experiments/stress/oldest.txt.
A build of torch for GPUs, which PyPI has for Linux, takes a few gigabytes. From Python 3.13 on MeCab is mecab-ko, not
python-mecab-ko: the tests are the same, the morphemes are not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
EXTRAS = "kiwi,hf,wiki,corpus,report,tensorboard,sweeps"
# What the tests themselves need is no dependency of korbert's, and as new as it can be.
TEST_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "pyyaml"]
# What touches a library in each of the ways in which korbert does; minutes together.
QUICK = [
    "architecture", "mecab", "text", "tokenizers", "published", "encoding", "entities", "store", "gazetteer",
    "corpus", "wikidump", "shards", "build_corpus", "korquad", "windows", "window_store", "decoding", "metrics",
    "model", "layout", "loss", "optimizer", "batching", "training", "parity", "importing", "exporting", "tracking",
    "records", "report", "study_report", "significance",
]  # fmt: skip


def run(*command: str | Path, capture: bool = False) -> str:
    """Run a command in the repository; what it printed, if that is wanted."""
    print("$", *command, flush=True)
    done = subprocess.run(
        list(map(str, command)), cwd=REPOSITORY, check=False, text=True, stdout=subprocess.PIPE if capture else None
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main() -> None:
    """Make the environment and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=RESOLUTIONS)
    parser.add_argument("--python", default="python3", help="the interpreter, such as python3.10")
    parser.add_argument("--tests", nargs="*", default=QUICK, help="names of test files, without test_")
    options = parser.parse_args()
    folder = REPOSITORY / ".versions" / f"{options.kind}-{Path(options.python).name}"
    run(UV, "venv", "--quiet", "--clear", "--python", options.python, folder)
    python = folder / "bin" / "python"
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", python]
    run(*install, "--resolution", RESOLUTIONS[options.kind], "-e", f".[{EXTRAS}]")
    run(*install, *TEST_TOOLS)
    installed = run(UV, "pip", "freeze", "--quiet", "--exclude-editable", "--python", python, capture=True)
    (folder / "installed.txt").write_text(installed, "utf-8")
    tests = [f"tests/test_{name}.py" for name in options.tests]
    run(python, "-m", "pytest", "-n", "2", "--dist", "loadfile", *tests)
    print(f"passed; what was installed: {folder / 'installed.txt'}")


if __name__ == "__main__":
    main()
