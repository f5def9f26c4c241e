"""Tokens and passwords get into no record, log or page."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from doors import run_door
from hypothesis import example, given
from hypothesis import strategies as st

from korbert.config import RunConfig
from korbert.errors import ConfigError
from korbert.redaction import HIDDEN, RedactingFormatter, redacted, redacted_values, refuse_secrets
from korbert.tasks.runs import as_dict

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "PGPASSWORD": "open sesame now",
    "MY_SECRET_2": "swordfish-swordfish",
    "GITHUB_PAT": "github_pat_abcdefgh",
    "MYSQL_PWD": "open barley now",
    "SSL_KEY": "MIIEvQIBADANBgkqhkiG9w0B/" * 200,
    "HTTPS_PROXY": "http://user:s3cretpassword@127.0.0.1:9",
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SHORT_KEY", "abc")


@pytest.mark.usefixtures("secrets")
def test_secrets_are_hidden() -> None:
    for name, value in SECRETS.items():
        assert redacted(f"<{value}>") == (f"<http://{HIDDEN}@127.0.0.1:9>" if name == "HTTPS_PROXY" else f"<{HIDDEN}>")
    assert (
        redacted("abc https://a.b/c?d=e:f@g ssh://git@host a:b@c") == "abc https://a.b/c?d=e:f@g ssh://git@host a:b@c"
    )
    nested = {"a": [SECRETS["HF_TOKEN"], 1, None, True], "b": {"c": "x"}}
    assert redacted_values(nested) == {"a": [HIDDEN, 1, None, True], "b": {"c": "x"}}
    config = RunConfig(run_dir=f"runs/{SECRETS['PGPASSWORD']}")
    assert as_dict(config)["run_dir"] == f"runs/{HIDDEN}"
    refuse_secrets(["seed=1", "run_dir=abc", "corpus.files=[https://host/a@b]"])
    for word, said in (
        (f"x.y={SECRETS['HF_TOKEN']}", "x.y: has the value of HF_TOKEN"),
        (f"x.y={SECRETS['GITHUB_PAT']}", "x.y: has the value of GITHUB_PAT"),
        (f"x.y={SECRETS['MYSQL_PWD']}", "x.y: has the value of MYSQL_PWD"),
        ("z=ftp://u:p@h", "z: has a password or a token"),
        ("z=https://u:p/w@h", "z: has a password or a token"),
        ("z=[git+https://token@h]", "z: has a password or a token"),
    ):
        with pytest.raises(ConfigError, match=said):
            refuse_secrets([word])


@given(st.from_regex(r"[^\s/@:'\"]{0,20}", fullmatch=True), st.from_regex(r"[^\s'\"]{1,20}", fullmatch=True))
@example("u", "p/w")
@example("", "p@ss/w@rd")
@example("token", "")
@example("token" * 200, "/" * 999)
def test_no_part_of_a_password_in_an_address_is_left(user: str, password: str) -> None:
    if "://" not in password:
        for scheme in ("https", "HTTP", "postgresql", "git+ssh"):
            assert redacted(f"<{scheme}://{user}:{password}@host:80/x> a@b") == f"<{scheme}://{HIDDEN}@host:80/x> a@b"
    if user:
        assert redacted(f"'https://{user}@host/x' http://a@b") == f"'https://{HIDDEN}@host/x' http://{HIDDEN}@b"
        assert redacted(f"ssh://{user}@host/x") == f"ssh://{user}@host/x"


def test_where_the_shell_is_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PWD", "OLDPWD", "OLD_PWD"):
        monkeypatch.setenv(name, str(tmp_path))
    assert redacted(str(tmp_path / "x")) == str(tmp_path / "x")
    monkeypatch.setenv("PWD", "/a/folder/that/is/gone")
    refuse_secrets(["run_dir=/a/folder/that/is/gone/run"])


@pytest.mark.usefixtures("secrets")
def test_log_lines_have_no_secrets() -> None:
    formatter = RedactingFormatter("%(message)s")
    try:
        raise OSError(f"proxy {SECRETS['HTTPS_PROXY']} refused {SECRETS['WANDB_API_KEY']}")
    except OSError as error:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed (%s)", (error,), sys.exc_info())
    said = formatter.format(record)
    assert "proxy http://[hidden]@127.0.0.1:9 refused [hidden]" in said
    assert "Traceback" in said
    assert "s3cret" not in said
    assert SECRETS["WANDB_API_KEY"] not in said


TINY = (
    "model=tiny", "model.hidden_size=16", "model.num_layers=1", "model.num_heads=2", "train.steps=2",
    "train.batch_size=2", "task.validation_examples=4", "tokenizer=syllable", "tokenizer.vocab_size=300",
    "entities=none", "runtime.threads=1", "runtime.workers=1", "corpus.max_documents=5", "corpus.holdout=0.3",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("secrets")
def test_a_run_keeps_no_secret(tmp_path: Path) -> None:
    """Everything that the door and wandb write, byte for byte."""
    pytest.importorskip("wandb")
    folders = (f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}")
    done = run_door("pretrain", *TINY, "tracker=wandb", *folders)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"record.json", "config.json", "sessions.jsonl", "log.txt", "hydra.yaml"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    contents = [*((str(path), path.read_bytes()) for path in files), ("stderr", done.stderr.encode())]
    for name, value in {**SECRETS, "HTTPS_PROXY": "s3cretpassword"}.items():
        assert [path for path, content in contents if value.encode() in content] == [], name


@pytest.mark.slow
@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"tracker.group={SECRETS['HF_TOKEN']}", "value of HF_TOKEN"),
        ("tracker.group='http://me:pw@host'", "a password or a token"),
    ],
)
@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=["run", "sweep"])
def test_a_command_line_with_a_secret_stops_at_once(
    tmp_path: Path, override: str, said: str, sweep: tuple[str, ...]
) -> None:
    # What cannot be resolved before a run begins is no way around it.
    unresolved = ("tracker.name=j-${hydra:job.name}", "train.log_every=${nope}")
    done = run_door("pretrain", *sweep, *TINY, *unresolved, override, f"run_dir={tmp_path / 'run'}", ok=False)
    assert done.returncode == 1
    assert f"error: tracker.group: has {'the ' if 'HF' in said else ''}{said} in it" in done.stderr
    assert SECRETS["HF_TOKEN"] not in done.stderr
    assert not (tmp_path / "run").exists()
