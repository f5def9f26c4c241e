"""The demo says what the library says, at the right characters; how it starts and ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import EVIL
from hypothesis import given
from hypothesis import strategies as st
from web import TEXTS, ask, send

import korbert
from korbert.config import DemoConfig, DemoLimits
from korbert.demo import Cutter, DemoServer, Playground, Refusal, open_server, read_examples
from korbert.encoding import EntityInput
from korbert.entities import make_annotator
from korbert.errors import ConfigError
from korbert.files import read_json, write_json_atomically
from korbert.study.calibration import confidence, shares
from korbert.tasks import demo as module
from korbert.tasks.demo import prepare_demo
from korbert.tokenizers import load_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- what it says ----


def test_what_there_is_to_choose(demo_server: DemoServer, demo_config: DemoConfig, sample: Path) -> None:
    setup = send(demo_server, "GET", "/api/setup").json
    assert [(r["name"], r["mode"], r["annotator"]) for r in setup["readers"]] == [
        ("plain", "none", "none"),
        (EVIL, "both", "mecab"),
    ]
    assert setup["cutters"] == ["plain", EVIL, "syllables"]
    assert setup["local"] is True
    examples = setup["examples"]
    dev = [example for example in examples if example["trained_on"]]
    assert 0 < len(dev) < len(examples)
    assert {q["text"] for e in dev for q in e["questions"]} < set(
        re.findall(r'"question": "(.*)"', (sample / "KorQuAD_sample_dev.json").read_text("utf-8"))
    )
    assert all(q["gold"] in e["text"] for e in examples for q in e["questions"])


@pytest.mark.parametrize("text", TEXTS)
def test_answers_are_the_librarys(demo_server: DemoServer, demo_config: DemoConfig, text: str) -> None:
    question = "언제 어디에서 😀?"
    answers = ask(demo_server, "answer", text=text, question=question)["answers"]
    assert [answer["name"] for answer in answers] == ["plain", EVIL]
    for run, answer in zip(demo_config.runs, answers, strict=True):
        wanted = korbert.load(run).answer(question, text)
        assert (answer["start"], answer["end"], answer["text"]) == (wanted.start, wanted.end, wanted.text)
        assert answer["confidence"] == pytest.approx(wanted.confidence, rel=1e-5)
        assert [(c["start"], c["end"]) for c in answer["nbest"]] == [(c.start, c.end) for c in wanted.nbest]
        assert answer["nbest"][0]["share"] == pytest.approx(answer["confidence"])
        assert sum(c["share"] for c in answer["nbest"]) == pytest.approx(1)
        for found in (answer, *answer["nbest"]):
            assert text[found["start"] : found["end"]] == found["text"] != ""
    assert answers[0]["entities"] == []
    found = make_annotator("mecab").annotate(text).entities
    assert [(e["start"], e["end"]) for e in answers[1]["entities"]] == [(e.start, e.end) for e in found]


def test_an_article_without_paragraphs_is_no_example(sample: Path, tmp_path: Path) -> None:
    dataset = read_json(sample / "KorQuAD_sample_dev.json")
    dataset["data"].insert(0, {"title": "x", "paragraphs": []})
    write_json_atomically(tmp_path / "x.json", dataset)
    found, wanted = (read_examples([path], []) for path in (tmp_path / "x.json", sample / "KorQuAD_sample_dev.json"))
    assert found == wanted != []


def test_shares_by_hand() -> None:
    assert shares([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert shares([2.0, 0.0], 2.0)[0] == pytest.approx(1 / (1 + 2.718281828**-1))
    assert shares([-1e9, 1e9]).tolist() == [0.0, 1.0]
    assert confidence([0.0, 1.0, 0.0]) == shares([0.0, 1.0, 0.0])[1]
    assert confidence([]) == 0


@pytest.mark.parametrize("text", TEXTS)
def test_cuts_are_the_tokenizers(demo_server: DemoServer, demo_config: DemoConfig, text: str) -> None:
    unmarked, marked = (ask(demo_server, "cut", text=text, marked=marked) for marked in (False, True))
    tokenizer = load_tokenizer(demo_config.tokenizers[0])
    tokens = tokenizer.encode(text)
    row = unmarked["rows"][2]
    assert (row["name"], row["vocabulary"], row["entities"]) == ("syllables", len(tokenizer), [])
    assert [t["id"] for t in row["tokens"]] == tokens.ids.tolist()
    assert [t["start"] for t in row["tokens"]] == tokens.starts.tolist()
    assert [t["end"] for t in row["tokens"]] == tokens.ends.tolist()
    assert [t["piece"] for t in row["tokens"]] == [tokenizer.vocabulary[i] for i in tokens.ids]
    assert [t["kind"] == "unknown" for t in row["tokens"]] == (tokens.ids == tokenizer.special.unk).tolist()
    annotated = make_annotator("expressions-mecab+mecab").annotate(text)
    edges = [(e.start, e.end) for e in annotated.entities]
    assert [(e["start"], e["end"]) for e in marked["entities"]] == edges
    # Markers around exactly the entities; the models' rows do not depend on the switch.
    row = marked["rows"][2]
    assert [t["start"] for t in row["tokens"] if t["kind"] == "open"] == [start for start, _ in edges]
    assert [t["start"] for t in row["tokens"] if t["kind"] == "close"] == [end for _, end in edges]
    assert unmarked["rows"][:2] == marked["rows"][:2]
    assert {t["kind"] for t in marked["rows"][0]["tokens"]} <= {"text", "unknown"}


@given(text=st.text(max_size=40), marked=st.booleans())
def test_tokens_can_be_drawn_in_any_text(playground: Playground, text: str, marked: bool) -> None:
    """In order, without overlap, inside the text: drawing them and what lies between gives the text."""
    try:
        rows = playground.cut(text, marked)["rows"]
    except Refusal:  # blank
        assert not any(map(str.isalnum, text))
        return
    for row in rows:
        drawn, at = "", 0
        for token in row["tokens"]:
            assert token["start"] >= at or token["start"] == token["end"]
            drawn += text[at : token["end"]]
            at = max(at, token["end"])
        assert drawn + text[at:] == text


@pytest.fixture(scope="module")
def playground(demo_config: DemoConfig) -> Iterator[Playground]:
    tokenizer = load_tokenizer(demo_config.tokenizers[0])
    cutters = [
        Cutter("free", tokenizer, EntityInput()),
        Cutter("own", tokenizer, EntityInput(), make_annotator("mecab")),
    ]
    return Playground({}, cutters, make_annotator("expressions-mecab+mecab"), "both")


def test_masked_words_are_the_librarys(demo_server: DemoServer, demo_config: DemoConfig) -> None:
    text = "👍 세종은 [MASK]의 제4대 [MASK]이다."
    places = ask(demo_server, "fill", text=text)["places"]
    wanted = korbert.load(str(demo_config.pretrain)).fill_mask(text)
    assert [[p["piece"] for p in place] for place in places] == [[f.token for f in place] for place in wanted]
    for place, librarys in zip(places, wanted, strict=True):
        assert len(place) == 5
        assert [p["probability"] for p in place] == pytest.approx([f.probability for f in librarys], rel=1e-5)
        assert all(p["text"] for p in place)
    assert send(demo_server, "POST", "/api/fill", {"text": "세종은 왕이다."}).code == "no_mask"
    assert send(demo_server, "POST", "/api/fill", {"text": "가" * 900 + "[MASK]"}).code == "model"


# ---- start and end ----


def test_what_cannot_be_started(demo_config: DemoConfig, demo_server: DemoServer, tmp_path: Path) -> None:
    plain, base = demo_config.runs[0], str(demo_config.pretrain)
    for wrong, message in (
        (replace(demo_config, runs=[str(tmp_path / "none")]), "none holds no trained model: run `make quickstart`"),
        (replace(demo_config, pretrain=str(tmp_path)), "run `make quickstart` first"),
        (replace(demo_config, runs=[base]), "was not fine-tuned for questions"),
        (replace(demo_config, pretrain=plain), "wanted a pretraining run"),
        (replace(demo_config, runs=[], tokenizers=[]), "there is nothing to show"),
        (replace(demo_config, port=1 << 16), "port=65536: wanted 0 to 65535"),
        (replace(demo_config, host=""), "host: wanted an address"),
        (replace(demo_config, host="192.0.2.1"), "host=192.0.2.1 is no address of this machine"),
        (replace(demo_config, port=demo_server.server_port), "something listens there already"),
        (replace(demo_config, limits=DemoLimits(cut=0)), "limits.cut: wanted 1 or more"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            prepare_demo(wrong)


def test_tokenizers_alone_and_names_that_are_the_same(
    demo_config: DemoConfig, caplog: pytest.LogCaptureFixture
) -> None:
    missing = str(Path(demo_config.tokenizers[0]).parent / "missing" / "vocab.txt")
    config = replace(demo_config, runs=[], pretrain=None, tokenizers=[*demo_config.tokenizers, missing])
    with prepare_demo(config) as server:
        assert json.loads(server.files["/api/setup"][0])["masked"] is None
        assert json.loads(server.files["/api/setup"][0])["cutters"] == ["syllables"]
        work, _ = server.calls["/api/fill"]
        with pytest.raises(Refusal, match="no pretraining run was given"):
            work("[MASK]")
    assert "vocab.txt is left out" in caplog.text
    # The same run twice: told apart by their paths as given, its tokenizer shown once.
    run = demo_config.runs[0]
    with prepare_demo(replace(demo_config, runs=[run, f"{run}/../plain"], pretrain=None)) as server:
        setup = json.loads(server.files["/api/setup"][0])
    assert [reader["name"] for reader in setup["readers"]] == [run, f"{run}/../plain"]
    assert setup["cutters"] == [run, "syllables"]


def test_another_host_is_warned_of(
    demo_config: DemoConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def no_names(*_: object) -> str:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getfqdn", no_names)
    monkeypatch.setattr(DemoServer, "run", lambda self: None)
    module.demo(demo_config)
    assert "warning" not in caplog.text
    assert re.search(r"korbert demo: http://127\.0\.0\.1:\d+ ", capsys.readouterr().out)
    module.demo(replace(demo_config, host="0.0.0.0"))
    assert "host=0.0.0.0 lets other machines in, and there is no password" in caplog.text


def test_hosts_of_an_open_server() -> None:
    playground = Playground({}, (), make_annotator("none"), "none")
    with open_server(playground, "0.0.0.0", 0) as server:
        assert not server.is_local
        assert json.loads(server.files["/api/setup"][0])["local"] is False
        assert server.allows("192.0.2.7:8000")  # an address cannot be pointed elsewhere
        assert server.allows(socket.gethostname())
        assert not server.allows("evil.example")


@pytest.mark.slow
def test_a_user_starts_and_ends_it(repository: Path, demo_config: DemoConfig, tmp_path: Path) -> None:
    """As a process: the address is printed, only this machine is listened to, Ctrl-C ends it at once and in order."""
    command = [
        sys.executable, "experiments/demo.py", f"runs=[{demo_config.runs[0]}]", f"pretrain={demo_config.pretrain}",
        f"tokenizers=[{demo_config.tokenizers[0]},nothing@10]", "port=0", f"data.cache={tmp_path}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # As from a terminal: what a shell starts in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"korbert demo: http://127\.0\.0\.1:(\d+)  \(Ctrl-C ends it\)\n", said)
        assert found, said + process.communicate(timeout=120)[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=30)
        connection.request("GET", "/api/setup")
        setup = json.loads(connection.getresponse().read())
        assert setup["cutters"] == ["plain", "syllables"]
        assert len(setup["masked_examples"]) == 3
        # The connection is still open: it must not hold up the end.
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "nothing@10 is left out" in err
    assert out == ""
    missing = subprocess.run(
        [sys.executable, "experiments/demo.py", f"runs=[{tmp_path}]"], cwd=repository, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert missing.returncode == 1
    assert "run `make quickstart` first" in missing.stderr
    assert "Traceback" not in missing.stderr
