"""The whole path on the bundled sample, by the same commands a user would give, and a report of what came out."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from korbert.api import Reader, load
from korbert.config import QuickstartConfig, as_override
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.errors import KorbertError
from korbert.files import PREDICTIONS, RECORD, read_json, write_text_atomically
from korbert.metrics import score_predictions
from korbert.tasks.own_folders import check_own, renew
from korbert.training.interrupt import Interrupted

_REPOSITORY = Path(__file__).resolve().parents[2]
_SAMPLE = Path("data/sample")
_TRAIN, _DEV = _SAMPLE / "KorQuAD_sample_train.json", _SAMPLE / "KorQuAD_sample_dev.json"
_ARMS = {"plain": "entities=none", "entity-aware": "entities=inherit"}  # both of one pretraining, with entities
_RULE = "lexical-baseline"
_MARKER, _TITLE = ".quickstart", "# korbert quickstart"


def quickstart(config: QuickstartConfig) -> None:
    """Tokenizer, pretraining, a baseline, plain and entity-aware fine-tuning, official scores, answers, a report."""
    if not (_REPOSITORY / _TRAIN).exists():
        raise KorbertError(f"{_REPOSITORY / _TRAIN} is not there: the quickstart runs in a checkout of the repository")
    started = time.perf_counter()
    folder = Path(config.folder) if Path.cwd() == _REPOSITORY else Path(config.folder).absolute()
    check_own(folder, _MARKER, _is_older)
    if (folder / "report.md").exists() or not (folder / _MARKER).exists():
        renew(folder, _MARKER)  # else it was stopped, and goes on
    tokenizer, pretrained = folder / "tokenizer", folder / "pretrain"
    _door(
        "1/7  Train a tokenizer on the sample corpus", "train_tokenizer",
        "tokenizer.vocab_size=1500", as_override("output", str(tokenizer)),
    )  # fmt: skip
    _door(
        "2/7  Pretrain a small entity-aware BERT (masked LM, and finding a sentence's missing word again)", "pretrain",
        "recipe=selection", "model=narrow", as_override("tokenizer.path", str(tokenizer)), "train.steps=500",
        "train.batch_size=32", as_override("run_dir", str(pretrained)),
    )  # fmt: skip
    _door(
        "3/7  Answer by a rule that learns nothing, which a model has to beat", "lexical_baseline",
        as_override("run_dir", str(folder / _RULE)),
    )  # fmt: skip
    for number, (arm, entities) in enumerate(_ARMS.items(), start=4):
        _door(
            f"{number}/7  Fine-tune on the sample questions, {arm}", "finetune_korquad",
            as_override("init", str(pretrained)), entities, "train.epochs=8", "train.optimizer.learning_rate=5e-4",
            as_override("run_dir", str(folder / arm)),
        )  # fmt: skip
    scores = {}
    for name in (_RULE, *_ARMS):
        predictions = folder / name / PREDICTIONS
        line = _door(
            f"6/7  Score the held-out questions with the official metric, {name}", "evaluate_korquad",
            as_override("dataset", str(_DEV)), as_override("predictions", str(predictions)), capture=True,
        )  # fmt: skip
        scores[name] = json.loads(line)
    print("\n7/7  Answer questions in Python: korbert.load(run).answer(question, context)", flush=True)
    report = _report(folder, scores, time.perf_counter() - started)
    write_text_atomically(folder / "report.md", report)
    print(f"\n{report}\nThis report: {folder / 'report.md'}")


def _door(title: str, name: str, *overrides: str, capture: bool = False) -> str:
    """Run an experiment script as a user would, showing its command; return what it printed if `capture`."""
    script = f"experiments/{name}.py"
    print(f"\n{title}\n$ python {shlex.join([script, *overrides])}", flush=True)
    started = subprocess.Popen(
        [sys.executable, script, *overrides],
        cwd=_REPOSITORY, stdout=subprocess.PIPE if capture else None, text=True,
    )  # fmt: skip
    try:
        printed, _ = started.communicate()
    except KeyboardInterrupt:  # which the command was told, too: it ends when its state is written
        started.wait()
        raise Interrupted(f"stopped in {title.partition(' ')[0]}") from None
    if started.returncode:
        raise KorbertError(f"the command above failed with status {started.returncode}")
    if capture:
        print(printed, end="", flush=True)
    return printed or ""


def _is_older(folder: Path) -> bool:
    """Whether a quickstart made the folder before there were markers: by its report, or the names so far."""
    report = folder / "report.md"
    if report.is_file():
        return report.read_bytes().startswith(_TITLE.encode())
    names = {path.name for path in folder.iterdir()}
    return "plain" in names and names <= {"tokenizer", "pretrain", *_ARMS}


def _report(folder: Path, scores: dict[str, Any], seconds: float) -> str:
    train, dev = read_korquad(_REPOSITORY / _TRAIN), read_korquad(_REPOSITORY / _DEV)
    readers = {arm: load(_REPOSITORY / folder / arm) for arm in _ARMS}
    masked = read_json(_REPOSITORY / folder / "pretrain" / RECORD)["results"]
    rule = scores[_RULE]
    rows = [f"| a rule that learns nothing | {rule['exact_match']:.1f} | {rule['f1']:.1f} | – | – |"]
    for arm, reader in readers.items():
        seen = _seen_score(reader, train)
        unseen = scores[arm]
        rows.append(f"| {arm} | {unseen['exact_match']:.1f} | {unseen['f1']:.1f} | {seen[0]:.1f} | {seen[1]:.1f} |")
    lines = [
        _TITLE,
        "",
        f"Sample corpus: {len(train.articles)} articles and {len(train)} questions to train on; "
        f"{len(dev.articles)} other articles and {len(dev)} questions to score. Official KorQuAD 1.0 metric, percent.",
        "",
        "| fine-tuned | EM, held-out articles | F1, held-out articles | EM, trained on | F1, trained on |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Before it sees a question, the model has learned to find the place of a word that was taken out of a "
        "sentence: of the pretrainings that were compared the one after which small models answer questions about "
        "articles that they have not seen (experiments/results/recipes.md). From a text this short about what the "
        "rule reaches is to be expected, which looks for words of the question. These figures show that every part "
        "works, not how good a method is or which row is better, and they are no KorQuAD scores.",
        "",
        "Both are fine-tuned from one pretraining, with entities marked; on held-out documents its masked-LM loss is "
        f"{masked['mlm_loss']:.2f} nats a token.",
        "",
        "| question | answer of the entity-aware model | characters | gold | |",
        "|---|---|---|---|---|",
        *_answers(readers["entity-aware"], train, "trained on", 1),
        *_answers(readers["entity-aware"], dev, "not seen", 4),
        "",
        "| what | where |",
        "|---|---|",
        f"| tokenizer | `{folder / 'tokenizer'}` |",
        f"| pretrained model, its metrics and record | `{folder / 'pretrain'}` |",
        f"| the rule: predictions.json | `{folder / _RULE}` |",
        *(f"| {arm}: model, predictions.json, nbest.json, metrics.jsonl | `{folder / arm}` |" for arm in _ARMS),
        "",
        f"{seconds:.0f} seconds from start to end.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _answers(reader: Reader, dataset: KorquadDataset, which: str, count: int) -> list[str]:
    """The first questions of a file and what the model says to them, as rows."""
    article = dataset.articles[0]
    paragraph = article.paragraphs[0]
    rows = []
    for question in paragraph.questions[:count]:
        answer = reader.answer(question.text, paragraph.context)
        cells = [question.text, answer.text, f"{answer.start}–{answer.end}", question.answers[0].text]
        rows.append(f"| {' | '.join(cells)} | {article.title}, {which} |")
    return rows


def _seen_score(reader: Reader, dataset: KorquadDataset) -> tuple[float, float]:
    """EM and F1 on questions that the model was trained on."""
    answers = {
        question.id: reader.answer(question.text, paragraph.context).text
        for _, paragraph, question in dataset.questions()
    }
    score = score_predictions(dataset.gold(), answers)
    return score.exact_match, score.f1
