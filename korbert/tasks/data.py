"""Bring the real data: check the files under data.root, or download KorQuAD 1.0 from its official addresses."""

from __future__ import annotations

import logging
from pathlib import Path

from korbert.config import PrepareDataConfig
from korbert.data.corpus import expand_paths, read_documents
from korbert.data.download import KORQUAD_DEV, KORQUAD_TRAIN, RemoteFile, fetch, verify
from korbert.data.korquad import korquad_dev_5fold, read_korquad
from korbert.errors import KorbertError
from korbert.tasks.prepare import progress_bar

log = logging.getLogger(__name__)
_TYDI = "tydiqa_ko/tydiqa_goldp_ko_train.json"
_KOWIKI = "kowiki/*.jsonl.xz"


def prepare_data(config: PrepareDataConfig) -> None:
    """Check what lies under data.root, or else download KorQuAD 1.0 train and dev; say what is ready for use."""
    if config.data.root:
        _check_root(Path(config.data.root))
    else:
        folder = Path(config.folder) / "korquad"
        for remote in (KORQUAD_TRAIN, KORQUAD_DEV):
            _report_questions(_download(remote, folder))
        log.info("ready: run the other commands with data.root=%s", config.folder)


def _download(remote: RemoteFile, folder: Path) -> Path:
    with progress_bar(unit="B", unit_scale=True, desc=remote.name) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        return fetch(remote, folder, show)


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise KorbertError(f"data.root={root}: no such folder")
    found = 0
    for remote in (KORQUAD_TRAIN, KORQUAD_DEV):
        path = root / "korquad" / remote.name
        if path.exists():
            verify(path, remote)
            _report_questions(path)
            found += 1
        else:
            log.info("%s: not there; it is needed only for scores on the official split", path)
    if (root / _TYDI).exists():
        _report_questions(root / _TYDI)
    if any(root.glob(_KOWIKI)):
        files = expand_paths([str(root / _KOWIKI)])
        first = next(read_documents(files[0]))
        log.info("%s: %d files; the first document has %d paragraphs", root / _KOWIKI, len(files), len(first))
        found += 1
    if not found:
        raise KorbertError(
            f"data.root={root}: neither korquad/{KORQUAD_DEV.name} nor {_KOWIKI} is there; "
            "see data/README.md for the layout"
        )
    log.info("ready: run the other commands with data.root=%s (or set KORBERT_DATA)", root)


def _report_questions(path: Path) -> None:
    dataset = read_korquad(path)
    log.info("%s: %d articles, %d questions, all valid", path, len(dataset.articles), len(dataset))
    if path.name == KORQUAD_DEV.name:
        sizes = [len(dataset.subset(fold)) for fold in korquad_dev_5fold(dataset)]
        log.info("korquad-dev-5fold: folds of %s questions", ", ".join(map(str, sizes)))
