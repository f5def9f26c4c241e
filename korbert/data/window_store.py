"""Windows on disk, by what they are made from: a second fine-tuning with the same settings reads them.

One safetensors file for each key, read as a memory map, never padded: the windows' columns end to end. What is in the
question file itself, contexts and ids, is not written again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from korbert.data.korquad import KorquadDataset
from korbert.data.windows import SharedColumns, Window, WindowMaker, WindowStatistics
from korbert.encoding import marker_mask
from korbert.errors import DataError
from korbert.files import digest, write_bytes_atomically
from korbert.tokenizers import SpecialTokens

FORMAT = 5  # another one wherever the same settings would make other windows
Columns = dict[str, npt.NDArray[np.int32]]
# Of each window: its question's place in the data set, its tokens, the first one of the context, the answer's first and
# last one, and their characters before and behind it.
_OF_WINDOW = ("question", "length", "context_start", "first", "last", "before", "behind")
log = logging.getLogger(__name__)


def stored_windows(
    maker: WindowMaker, dataset: KorquadDataset, cache: Path, progress: Callable[[int], None] | None = None
) -> tuple[list[Window], WindowStatistics]:
    """What `maker.dataset` gives, read from `cache` where it is there, and else made and kept there.

    A damaged file is said, and made again. Several processes may do so at once.
    """
    key = window_key(maker, dataset)
    path = cache / "windows" / f"{key}.safetensors"
    if path.is_file():
        try:
            windows, made = read_windows(path, key, dataset, maker)
        except DataError as error:
            log.warning("%s; the windows are made again", error)
        else:
            log.info("windows: read from %s", path)
            return windows, made
    windows, made = maker.dataset(dataset, progress)
    write_windows(path, key, dataset, windows, made)
    return windows, made


def window_key(maker: WindowMaker, dataset: KorquadDataset) -> str:
    """Sixteen hexadecimal digits that change with anything that windows are made from."""
    content = [
        [paragraph.context, [[q.id, q.text, [[a.start, a.text] for a in q.answers]] for q in paragraph.questions]]
        for article in dataset.articles
        for paragraph in article.paragraphs
    ]
    entities = {**asdict(maker.entities), "mode": maker.entities.mode.value}
    annotator = maker.annotator.fingerprint if maker.entities.mode.cuts else "none"  # nobody asks it otherwise
    return digest([FORMAT, content, maker.tokenizer.identity, annotator, entities, asdict(maker.config)])


def write_windows(
    path: Path, key: str, dataset: KorquadDataset, windows: Sequence[Window], made: WindowStatistics
) -> None:
    """Write the windows of a data set, all of them or, after a crash, no file."""
    number = {question.id: place for place, (_, _, question) in enumerate(dataset.questions())}
    rows = [(number[w.question_id], len(w), w.context_start, *w.answer, *w.beyond) for w in windows]
    columns: Columns = {"windows": np.array(rows, dtype=np.int32).reshape(-1, len(_OF_WINDOW))}
    for name, of_window in (
        ("tokens", [w.token_ids for w in windows]), ("starts", [w.starts for w in windows]),
        ("ends", [w.ends for w in windows]), ("entities", [w.entity_ids for w in windows]),
    ):  # fmt: skip
        column = np.concatenate(of_window) if of_window else np.zeros(0, dtype=np.int32)
        if name != "entities" or column.any():
            columns[name] = column
    truncated = str(made.truncated_questions)
    metadata = {"key": key, "truncated": truncated, "checksum": str(_checksum(columns, truncated))}
    write_bytes_atomically(path, save(columns, metadata=metadata))


def read_windows(
    path: Path, key: str, dataset: KorquadDataset, maker: WindowMaker
) -> tuple[list[Window], WindowStatistics]:
    """Read what `write_windows` wrote. Raises DataError for a file that is damaged or has another key."""
    try:
        with safe_open(path, framework="pt") as file:  # torch's tensors lie in the file's map, numpy's are copies
            metadata = file.metadata() or {}
            columns: Columns = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, RuntimeError) as error:  # the last where it was removed while it was opened
        raise DataError(path, "content", f"damaged ({error})") from error
    if metadata.get("key") != key:
        raise DataError(path, "key", f"wanted {key}, found {metadata.get('key')}")
    truncated = metadata.get("truncated", "")
    if metadata.get("checksum") != str(_checksum(columns, truncated)):
        raise DataError(path, "checksum", "damaged: this is not what was written")
    windows = _windows(columns, dataset, maker.tokenizer.special)
    held = {row[0] for row in columns["windows"].tolist() if row[3:5] != [0, 0]}
    known = sum(bool(question.answers) for _, _, question in dataset.questions())
    return windows, WindowStatistics(len(dataset), len(windows), known - len(held), int(truncated))


def _windows(columns: Columns, dataset: KorquadDataset, special: SpecialTokens) -> list[Window]:
    """Windows that are views of the columns."""
    table = columns["windows"].astype(np.int64)
    lengths, heads = table[:, 1], table[:, 2]
    shared = SharedColumns(int(lengths.max(initial=0)))
    is_marker = marker_mask(columns["tokens"], special)
    ends = np.cumsum(lengths)
    context_ends = np.cumsum(lengths - heads - 1)  # all tokens behind the head but the last [SEP]
    questions = [(question.id, paragraph.context) for _, paragraph, question in dataset.questions()]
    entities = columns.get("entities")
    windows = []
    for row, end, context_end in zip(table.tolist(), ends.tolist(), context_ends.tolist(), strict=True):
        number, length, head, first, last, before, behind = row
        question_id, text = questions[number]
        every = slice(end - length, end)
        context = slice(context_end - (length - head - 1), context_end)
        windows.append(
            Window(
                question_id,
                text,
                columns["tokens"][every],
                shared.segments(head, length),
                shared.zeros[:length] if entities is None else entities[every],
                head,
                columns["starts"][context],
                columns["ends"][context],
                is_marker[end - length + head : end - 1],
                (first, last),
                (before, behind),
            )
        )
    return windows


def _checksum(columns: Mapping[str, npt.NDArray[np.int32]], truncated: str) -> int:
    """Of names, shapes and contents, and of what is said beside them."""
    value = zlib.crc32(truncated.encode())
    for name, column in sorted(columns.items()):
        value = zlib.crc32(f"{name}{column.shape}{column.dtype}".encode(), value)
        value = zlib.crc32(np.ascontiguousarray(column).data, value)
    return value
