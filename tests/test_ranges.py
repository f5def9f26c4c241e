"""Values out of their range are refused by key before anything is done; their neighbours are taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.data.decoding import DecodingConfig
from korbert.errors import ConfigError, check_all_known, check_known, check_range

CONF = Path(__file__).resolve().parents[1] / "conf"
HUGE = "9" * 20
# What a door needs beside the value that is looked at.
NEEDED = {
    "finetune_korquad": ["init=x"],
    "predict_korquad": ["run=x"],
    "build_corpus": ["output=x"],
    "pipeline": ["experiment=study_main", "data.root=x"],
}
# Door, key, values that cannot be, values that can.
RANGES = [
    ("pretrain", "seed", ["-1", HUGE], ["0", "4294967295"]),
    ("pipeline", "pretraining_seed", ["-1", HUGE], ["0", "null"]),
    ("pretrain", "runtime.threads", ["0", "-2"], ["1", "null"]),
    ("pretrain", "runtime.workers", ["-3", HUGE], ["0", "1"]),
    ("pretrain", "runtime.loader_workers", ["-1"], ["0", "null"]),
    ("pretrain", "corpus.max_documents", ["-1", "0"], ["1", "null"]),
    ("pretrain", "corpus.holdout", ["nan", "-0.1", "1"], ["0", "0.5"]),
    ("pretrain", "tokenizer.character_coverage", ["nan", "0", "1.1"], ["0.98", "1"]),
    ("pretrain", "tokenizer.train_characters", ["0"], ["1"]),
    ("pretrain", "init", ["''", "' '"], ["x", "null"]),
    *((door, "entities.store", ["x.sqlite"], ["null"]) for door in ("pretrain", "pipeline", "build_corpus")),
    ("pretrain", "task.short_share", ["nan", "-0.1", "1.1"], ["0", "1"]),
    ("pretrain", "task.validation_examples", ["0", "-3"], ["1"]),
    ("pretrain", "task.masking.mask_share", ["nan"], ["0"]),
    ("pretrain", "task.masking.random_share", ["nan"], ["0"]),
    ("pretrain", "task.selection.masking_rate", ["nan", "0", "1"], ["0.1", "null"]),
    ("pretrain", "task.curriculum", ["[{start:0,max_length:64,selection:nan}]"], ["[{start:0,max_length:64}]"]),
    ("pretrain", "tokenizer.vocab_size", ["0", "-5"], ["100"]),
    ("pretrain", "corpus.files", ["['']"], ["[x]"]),
    ("pretrain", "corpus.shards", ["''"], ["x", "null"]),
    ("pretrain", "train.batch_size", ["0", HUGE], ["1"]),
    ("pretrain", "train.accumulation", ["0", "1000000000000"], ["1"]),
    ("pretrain", "train.log_every", ["0", "-1"], ["1"]),
    ("pretrain", "train.evaluate_every", ["-1"], ["0"]),
    ("pretrain", "train.checkpoint_every", ["-5"], ["0"]),
    ("pretrain", "train.steps", ["0", HUGE], ["1"]),
    ("pretrain", "train.tokens", ["0", HUGE], ["1"]),
    ("pretrain", "train.epochs", ["nan", "inf", "1e300", "0", "-1"], ["0.5"]),
    ("pretrain", "train.budget", [f"{'9' * 400}h", "0s"], ["0.1s"]),
    ("pretrain", "train.optimizer.learning_rate", ["nan", "inf", "0", "-1", "1e38"], ["1e-12", "1"]),
    ("pretrain", "train.optimizer.matrix_learning_rate", ["nan", "inf", "0"], ["0.02"]),
    ("pretrain", "train.optimizer.max_gradient_norm", ["nan", "inf", "0"], ["1"]),
    ("pretrain", "train.optimizer.weight_decay", ["nan", "inf", "-1"], ["0"]),
    ("pretrain", "train.optimizer.epsilon", ["nan", "-1e-8", "0"], ["1e-8"]),
    ("pretrain", "train.optimizer.warmup", ["nan", "-0.1", "1.1"], ["0", "1"]),
    *(
        ("pretrain", f"train.optimizer.{key}", ["nan", "-0.1", "1"], ["0", "0.99"])
        for key in ("beta1", "beta2", "momentum")
    ),
    ("finetune_korquad", "init", ["''"], ["x", "hf:x"]),
    ("finetune_korquad", "dropout", ["nan", "-0.1", "1"], ["0", "null"]),
    ("finetune_korquad", "task.train", ["['']"], ["[x]"]),
    ("finetune_korquad", "task.test", ["''"], ["x"]),
    ("finetune_korquad", "task.validation_share", ["nan", "-0.5", "1"], ["0", "0.9"]),
    ("finetune_korquad", "task.letters", ["-1", "100000"], ["0", "512"]),
    ("finetune_korquad", "task.window.max_length", ["0", "100", HUGE], ["512"]),
    ("finetune_korquad", "task.window.doc_stride", ["-1", "384"], ["0"]),
    ("finetune_korquad", "task.window.max_question_length", ["-3", "0"], ["1"]),
    ("finetune_korquad", "task.decoding.n_best", ["0", HUGE], ["1"]),
    ("finetune_korquad", "task.decoding.max_answer_length", ["0", HUGE], ["1"]),
    ("finetune_korquad", "task.decoding.temperature", ["nan", "inf", "0", "-1"], ["1e-3", "20"]),
    ("finetune_korquad", "task.decoding.trim_josa", ["nope", "''"], ["mecab", "null"]),
    ("predict_korquad", "run", ["''"], ["x"]),
    ("predict_korquad", "batch_size", ["0", "-4", HUGE], ["1"]),
    ("predict_korquad", "+decoding.nbest", ["1"], []),
    ("predict_korquad", "+decoding.n_best", ["abc", "1.5", "true", "null", "0"], ["1"]),
    ("predict_korquad", "+decoding.max_context", ['"false"', "1"], ["false", "true"]),
    ("predict_korquad", "+decoding.temperature", ['"1"', "true", "nan", "[1]"], ["1", "0.5"]),
    ("predict_korquad", "+decoding.trim_josa", ["nope", "1"], ["mecab", "null"]),
    ("build_corpus", "piece_characters", ["0", "-5"], ["1"]),
    ("build_corpus", "wait", ["nan", "inf", "-1"], ["0", "0.5"]),
    ("build_corpus", "parts", ["0", "-1"], ["1"]),
    ("build_corpus", "part", ["1", "-1"], ["0"]),
    ("plan_run", "devices", ["0", "-1"], ["1"]),
    ("plan_run", "scaling", ["nan", "-0.1", "1.1"], ["0", "1"]),
    ("plan_run", "characters", ["nan", "inf", "0"], ["1e9", "null"]),
    ("compare_tokenizers", "vocab_sizes", ["[0]"], ["[600]"]),
    ("compare_tokenizers", "lengths", ["[0]", "[128,-1]"], ["[1]"]),
    ("compare_tokenizers", "words", ["0"], ["1"]),
    ("compare_tokenizers", "processes", ["[0]", "[-1]", "[]"], ["[1]"]),
    ("compare_tokenizers", "speed_seconds", ["nan", "inf", "-1", "0"], ["0.01"]),
    ("compare_tokenizers", "measures", ["[]"], ["[cost]"]),
    ("compare_tokenizers", "downstream.seeds", ["[-1]"], ["[0]"]),
    ("reproduce", "seeds", ["[-1]", f"[1,{HUGE}]"], ["[0]"]),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("door", "key", "wrong", "right"), RANGES, ids=[f"{door}-{key}" for door, key, *_ in RANGES])
def test_values_out_of_range_are_refused_by_key(door: str, key: str, wrong: list[str], right: list[str]) -> None:
    needed = [*NEEDED.get(door, []), "run_dir=x"]
    # The last part of a key stands by itself where a message is about several, such as "task.window: max_length=…".
    named = rf"{re.escape(key.lstrip('+'))}|\b{key.rpartition('.')[2]}\b"
    for value in wrong:
        with pytest.raises(ConfigError, match=named) as refused:
            compose_config(door, [*needed, f"{key}={value}"])
        assert "overrides:" not in str(refused.value)  # not for want of something else that the door needs
    for value in right:
        compose_config(door, [*needed, f"{key}={value}"])


def test_a_range_says_what_was_wanted() -> None:
    check_range("key", None, 1)
    check_range("key", 1, 1, 1)
    for value, limits, said in (
        (float("nan"), {}, "key: wanted 1 or more, got nan"),
        (float("inf"), {}, "key: wanted 1 or more, got inf"),
        (3, {"most": 2}, "key: wanted 1 or more, at most 2, got 3"),
        (2, {"most": 2, "below": True}, "key: wanted 1 or more, below 2, got 2"),
        (1, {"above": True}, "key: wanted more than 1, got 1"),
        (10**400, {"most": 2}, f"key: wanted 1 or more, at most 2, got {10**400}"),
    ):
        with pytest.raises(ConfigError) as refused:
            check_range("key", value, 1, **limits)
        assert str(refused.value) == said


def test_decoding_is_changed_from_what_it_was() -> None:
    """In the model's own, with a number that is whole where any may stand."""
    before = DecodingConfig(n_best=3, temperature=2.0)
    assert before.changed({}) == before
    assert before.changed({"temperature": 1}) == DecodingConfig(n_best=3)
    with pytest.raises(ConfigError, match=r"^decoding\.temperature: wanted more than 0, got -1$"):
        before.changed({"temperature": -1})


def test_names_that_are_unknown() -> None:
    check_known("key", "post", ["post", "pre"])
    check_all_known("key", [], [])
    check_all_known("key", ["pre", "post"], ["post", "pre"])
    for given, known, message in (
        ("middle", ["post"], "key: 'middle' is unknown, wanted post"),
        ("", ["post", "pre"], "key: '' is unknown, wanted post or pre"),
        ("pots", ["post", "pre", "none"], "key: 'pots' is unknown, wanted post, pre or none; is post meant?"),
        (None, ["post"], "key: None is unknown, wanted post"),
        (1, ["post"], "key: 1 is unknown, wanted post"),
        (["post"], ["post"], "key: ['post'] is unknown, wanted post"),
        ("post", [], "key: 'post' is unknown, wanted "),
    ):
        with pytest.raises(ConfigError, match=rf"^{re.escape(message)}$"):
            check_known("key", given, known)
    with pytest.raises(ConfigError, match="key: 'middle' is unknown"):
        check_all_known("key", ["pre", "middle"], ["pre"])
