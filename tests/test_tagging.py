"""Tags and windows by hand and as laws, the decoder against all paths, the tagger from training to an annotator."""

from __future__ import annotations

import itertools
import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hypothesis import example, given
from hypothesis import strategies as st

from korbert.config import compose_config
from korbert.data.batching import collate_tagged
from korbert.data.tagging import (
    TaggedWindow,
    TagMaker,
    TagsConfig,
    _possible,
    best_path,
    bio_tags,
    mapped,
    own_scores,
)
from korbert.encoding import Encoding
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError
from korbert.metrics import score_entities
from korbert.model import IGNORE_INDEX, ModelConfig, TaggerModel
from korbert.morphology import MecabAnalyser
from korbert.tagger import TaggerAnnotator
from korbert.tasks import tagging
from korbert.tasks.annotators import evaluate_annotators
from korbert.tasks.tagging import train_tagger
from korbert.text import AnnotatedText, Normalizer, Span, trim
from korbert.tokenizers import CharacterTokenizer, Pretokenizer, WordTokenizer
from korbert.training.state import load_tensors, save_tensors

TAGS = bio_tags(["PER", "LOC", "PER"])
LETTERS = CharacterTokenizer.train(["가나다라마 바사아자차카타파하 0123은는"] * 2, vocab_size=60)
WORDS = WordTokenizer.train(["서울에서 이순신은 만났다"], vocab_size=60)


def test_tags_by_hand() -> None:
    assert TAGS == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    maker = TagMaker(LETTERS, TAGS, TagsConfig(cut="none"))
    encoding = maker.encode("가나 다라마")
    tags = maker.gold(encoding, [Span(0, 2, "PER"), Span(3, 4, "LOC")])
    assert [TAGS[tag] for tag in tags] == ["B-PER", "I-PER", "B-LOC", "O", "O"]
    with pytest.raises(ValueError, match="'ORG' has no tag among O, B-LOC"):
        maker.gold(encoding, [Span(0, 2, "ORG")])


def test_the_rest_of_a_character_belongs_to_its_entity() -> None:
    text, spans = "김철수와이영희는", [Span(0, 3, "PER"), Span(4, 7, "LOC")]
    jamo = CharacterTokenizer.train([text], 60, pretokenizer=Pretokenizer(symbols="jamo"))
    maker = TagMaker(jamo, TAGS, TagsConfig(cut="characters"))
    encoding = maker.encode(text)
    assert "".join(TAGS[tag][0] for tag in maker.gold(encoding, spans)) == "BIIIIIII" + "OO" + "BIIIIII" + "OOO"


@pytest.mark.parametrize(
    ("cut", "pieces"),
    [
        ("none", ["서울에서", "이순신은", "만났다"]),
        ("mecab", ["서울", "에서", "이순신", "은", "만났", "다"]),
        ("characters", ["서", "울", "에", "서", "이", "순", "신", "은", "만", "났", "다"]),
    ],
)
def test_where_tokens_are_cut(cut: str, pieces: list[str]) -> None:
    text = "서울에서 이순신은 만났다"
    maker = TagMaker(WORDS, TAGS, TagsConfig(cut=cut))
    encoding = maker.encode(text)
    assert [text[a:b] for a, b in zip(encoding.starts, encoding.ends, strict=True)] == pieces
    # A word with its particle can only be named with it.
    tags = maker.gold(encoding, [Span(0, 2, "LOC"), Span(5, 8, "PER")])
    scores = np.where(np.arange(len(TAGS)) == tags[:, None], 0.0, -5.0).astype(np.float32)
    found = [span.of(text) for span in maker.spans(text, encoding, scores)]
    assert found == (["서울에서", "이순신은"] if cut == "none" else ["서울", "이순신"])


def test_tokens_without_characters_are_no_entity() -> None:
    """The sign of a word's start alone, the rest of an expanded character."""
    maker = TagMaker(LETTERS, TAGS, TagsConfig(cut="none"))
    columns = (np.array(values, dtype=np.int32) for values in ([9, 8, 9, 9], [0] * 4, [0, 0, 2, 2], [0, 2, 2, 3]))
    said = np.array([TAGS.index(tag) for tag in ("B-LOC", "B-PER", "I-PER", "O")])
    scores = np.where(np.arange(len(TAGS)) == said[:, None], 0.0, -5.0).astype(np.float32)
    assert maker.spans("가나다", Encoding(*columns), scores) == (Span(0, 2, "PER"),)


@pytest.mark.parametrize("cut", ["none", "mecab", "characters"])
@given(text=st.text("서울에서 이순신은  만났다\u200b\ufeff가A\u0301\u0958", max_size=20))
@example(text="\ufeff서울에서  이순신\u200b은\u00ad 만났다")
def test_tokens_do_not_depend_on_how_the_text_is_composed(cut: str, text: str) -> None:
    """They are those of its NFC, with characters of the text itself, in order and apart."""
    maker = TagMaker(WORDS, TAGS, TagsConfig(cut=cut))
    decomposed = unicodedata.normalize("NFD", text)
    encoding = maker.encode(decomposed)
    normal = Normalizer("NFC")(text).text
    assert encoding.token_ids.tolist() == maker.encode(normal).token_ids.tolist()
    edges = np.stack([encoding.starts, encoding.ends], axis=1).reshape(-1)
    assert np.all(np.diff(edges) >= 0)
    everything = np.full((len(encoding), len(TAGS)), -5.0, dtype=np.float32)
    everything[:, TAGS.index("B-PER")] = 0.0
    for span in maker.spans(decomposed, encoding, everything):
        assert trim(decomposed, span.start, span.end) == (span.start, span.end)


@st.composite
def annotated(draw: st.DrawFn) -> AnnotatedText:
    text = draw(st.text("가나다라 은0", min_size=1, max_size=60))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=10)))
    spans = []
    for start, end in zip(edges[0::2], edges[1::2], strict=False):
        if text[start] != " " and text[end - 1] != " ":
            spans.append(Span(start, end, draw(st.sampled_from(["PER", "LOC"]))))
    return AnnotatedText(text, tuple(spans))


@given(annotated(), st.integers(4, 30), st.integers(0, 20))
def test_what_was_tagged_comes_back_whatever_the_windows(text: AnnotatedText, length: int, stride: int) -> None:
    config = TagsConfig("characters", length, min(stride, length - 3))
    maker = TagMaker(LETTERS, TAGS, config)
    encoding = maker.encode(text.text)
    windows = maker.windows(encoding, text.entities)
    special = LETTERS.special
    for window in windows:
        assert len(window) <= length
        assert (window.token_ids[0], window.token_ids[-1]) == (special.cls, special.sep)
        assert window.tags[0] == window.tags[-1] == IGNORE_INDEX
        assert not np.any(window.tags[1:-1] == IGNORE_INDEX)
    if not len(encoding):
        assert windows == []
        return
    scores = [np.where(np.arange(len(TAGS)) == w.tags[:, None], 0.0, -9.0).astype(np.float32) for w in windows]
    own = own_scores(windows, scores)
    assert len(own) == len(encoding)
    assert maker.spans(text.text, encoding, own) == text.entities
    tokens = [window.token_ids[slice(*window.own)] for window in windows]
    assert np.array_equal(np.concatenate(tokens), encoding.token_ids)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_best_path_is_the_best_of_all(seed: int, length: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(length, len(TAGS))).astype(np.float32)
    follows = _possible(TAGS)
    best = -np.inf
    for path in itertools.product(range(len(TAGS)), repeat=length):
        names = ["O", *(TAGS[tag] for tag in path)]
        fine = all(b[0] != "I" or (a != "O" and a[2:] == b[2:]) for a, b in itertools.pairwise(names))
        if fine:
            best = max(best, float(sum(scores[place, tag] for place, tag in enumerate(path))))
    path = best_path(scores, follows)
    assert float(scores[np.arange(length), path].sum()) == pytest.approx(best, abs=1e-5)
    names = [TAGS[tag] for tag in path]
    assert names[0][0] != "I"
    assert all(b[0] != "I" or (a != "O" and a[2:] == b[2:]) for a, b in itertools.pairwise(names))


def test_entities_are_scored_by_hand() -> None:
    gold = [[Span(0, 2, "A"), Span(3, 5, "B")], [Span(0, 1, "A"), Span(2, 3, "B")], []]
    found = [[Span(0, 2, "A"), Span(3, 4, "B")], [Span(0, 1, "B")], [Span(0, 1, "A")]]
    score = score_entities(gold, found)
    assert (score.precision, score.recall, score.f1) == (50.0, 50.0, 50.0)
    assert score.typed_f1 == 25.0
    assert score.recall_by_type == {"A": 100.0, "B": 0.0}
    assert (score.missed, score.cut_otherwise) == (25.0, 25.0)
    with pytest.raises(ValueError, match="no gold entity"):
        score_entities([[]], [[Span(0, 1, "A")]])


def test_types_are_renamed_and_left_out() -> None:
    text = AnnotatedText("가나다", (Span(0, 1, "A"), Span(1, 2, "B"), Span(2, 3, "C")))
    (out,) = mapped([text], {"A": "X", "B": None})
    assert out.entities == (Span(0, 1, "X"), Span(2, 3, "C"))


def windows_for(texts: list[str], maker: TagMaker) -> list[TaggedWindow]:
    return [
        window for text in texts for window in maker.windows(maker.encode(text), [Span(0, 1, "PER")] if text else [])
    ]


def test_packed_equals_padded() -> None:
    torch.manual_seed(0)
    maker = TagMaker(LETTERS, TAGS, TagsConfig(cut="none"))
    windows = windows_for(["가나다라", "마바", "사아자차카타파하"], maker)
    model = TaggerModel(ModelConfig(len(LETTERS), 32, 2, 2, 64), len(TAGS)).eval()
    losses = [model.losses(collate_tagged(windows, LETTERS.special.pad, packed))["tagging"] for packed in (False, True)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    batch = collate_tagged(windows, LETTERS.special.pad)
    assert batch.target_counts() == {"tagging": 14}
    alone = sum(model.losses(collate_tagged([window], LETTERS.special.pad))["tagging"].item() for window in windows)
    assert alone == pytest.approx(losses[0].item(), rel=1e-5)


@pytest.fixture(scope="module")
def tagger(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger that has learned fifty sentences by heart."""
    folder = tmp_path_factory.mktemp("tagger")
    lines = [json.loads(line) for line in (repository / "data/sample/ner.jsonl").read_text("utf-8").splitlines()]
    CharacterTokenizer.train([line["text"] for line in lines], vocab_size=1000).save(folder / "tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            train_tagger(compose_config("train_tagger", overrides(folder)))
    return folder


def overrides(folder: Path, *more: str) -> list[str]:
    return [
        f"run_dir={folder / 'run'}", f"tokenizer_path={folder / 'tokenizer'}", "model=tiny", "task=ner_sample",
        "task.held_out=0.1", "train.epochs=25", "train.batch_size=8", "train.optimizer.learning_rate=3e-3",
        "runtime.threads=1", "runtime.workers=1", *more,
    ]  # fmt: skip


def test_tagger_learns_and_annotates(tagger: Path, repository: Path) -> None:
    record = json.loads((tagger / "run" / "record.json").read_text("utf-8"))
    (scores,) = record["results"]["scores"]
    assert scores["corpus"] == "sample"
    assert scores["boundary_oracle"] > 90
    assert (scores["sentences_learned"], scores["sentences"]) == (45, 5)
    held_out = [json.loads(line) for line in (tagger / "run" / "sample.jsonl").read_text("utf-8").splitlines()]
    assert len(held_out) == 5
    documents = [json.loads(line) for line in (repository / "data/sample/ner.jsonl").read_text("utf-8").splitlines()]
    learned = [d for d in documents if d["text"] not in {line["text"] for line in held_out}]
    annotator = make_annotator(f"tagger:{tagger / 'run'}")
    found = annotator.annotate_all([document["text"] for document in learned])
    gold = [[Span(start, end, label) for start, end, label, _ in document["entities"]] for document in learned]
    assert score_entities(gold, [text.entities for text in found]).typed_f1 > 90
    # Alone or with others, read twice or once: the same.
    assert [annotator.annotate(text.text) for text in found] == found
    assert annotator.fingerprint == make_annotator(f"tagger:{tagger / 'run'}").fingerprint
    assert annotator.annotate("").entities == ()
    assert annotator.annotate(" \n").entities == ()
    longer = " ".join(document["text"] for document in learned)  # several windows
    assert len(annotator.annotate(longer).entities) > 0.8 * sum(map(len, gold))
    both = make_annotator(f"tagger:{tagger / 'run'}+expressions-mecab")
    assert both.annotate(found[0].text).entities


def test_a_tagger_is_not_scored_on_what_it_learned_from(
    tagger: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has held out a tenth of the documents; the default is two."""
    monkeypatch.chdir(repository)
    given = [
        f"annotators=['expressions-mecab+tagger:{tagger / 'run'}']", "~corpora", "+corpora.same=data/sample/ner.jsonl",
        "korquad=data/sample/KorQuAD_sample_dev.json", "tokenizers=[]", "speed_seconds=0.01",
        f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        message = r"corpora\.same: .*tagger:.* has learned from 5 of the 10 sentences that count; .*give held_out=0\.1"
        with pytest.raises(ConfigError, match=message):
            evaluate_annotators(compose_config("evaluate_annotators", given))
        record = evaluate_annotators(compose_config("evaluate_annotators", [*given, "held_out=0.1"]))
    assert [row["corpus"] for row in record["results"]["gold names"]] == ["same"]


def test_sentences_on_both_sides_are_told(
    tagger: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same sentence many times, each a document of its own; with the name of one document they stay together."""
    monkeypatch.chdir(repository)
    line = {"text": "세종은 왔다", "entities": [[0, 2, "PS"]]}
    others = [{"text": f"이순신은 {number}번 왔다", "entities": [[0, 3, "PS"]]} for number in range(30)]
    for named in ({}, {"file": "one"}):
        lines = [json.dumps(one) for one in [*[line | named] * 20, *others]]
        (tmp_path / "mine.jsonl").write_text("\n".join(lines), "utf-8")
        given = overrides(tagger, f"task.corpora.sample.file={tmp_path / 'mine.jsonl'}")
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            config = compose_config("train_tagger", [*given, "task.held_out=0.3", f"run_dir={tmp_path / 'run'}"])
        caplog.clear()
        tagging._corpora(config)
        assert ("have the text of one that is learned from" in caplog.text) == (not named)


def test_a_tagger_reads_decomposed_text(tagger: Path, repository: Path) -> None:
    lines = [json.loads(line) for line in (repository / "data/sample/ner.jsonl").read_text("utf-8").splitlines()]
    annotator = make_annotator(f"tagger:{tagger / 'run'}")
    composed = [unicodedata.normalize("NFC", line["text"]) for line in lines]
    decomposed = [f"\ufeff{unicodedata.normalize('NFD', text)}" for text in composed]
    pairs = list(zip(annotator.annotate_all(composed), annotator.annotate_all(decomposed), strict=True))
    assert sum(len(text.entities) for text, _ in pairs) > 50
    for one, other in pairs:
        found = [(unicodedata.normalize("NFC", span.of(other.text)), span.label) for span in other.entities]
        assert found == [(span.of(one.text), span.label) for span in one.entities]


def test_a_tagger_s_fingerprint_is_what_it_says(tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(run: Path) -> str:
        return TaggerAnnotator(run).fingerprint

    first = fingerprint(tagger / "run")
    shutil.copytree(tagger / "run", tmp_path / "same")
    assert fingerprint(tmp_path / "same") == fingerprint(tmp_path / "same" / "model") == first
    with monkeypatch.context() as patch:
        patch.setattr(MecabAnalyser, "version", "another")
        assert fingerprint(tagger / "run") != first
    path = tmp_path / "same" / "model" / "model.safetensors"
    tensors, state = load_tensors(path)
    name = next(iter(tensors))
    save_tensors(path, {**tensors, name: tensors[name] + 1}, state)
    assert fingerprint(tmp_path / "same") != first


def test_a_tagger_that_is_not_finished_is_refused(tagger: Path, tmp_path: Path) -> None:
    shutil.copytree(tagger / "run", tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    with pytest.raises(DataError, match="run: not finished: give the command of its training again"):
        make_annotator(f"tagger:{tmp_path / 'run'}")


def test_wrong_taggers_are_named(tagger: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: run: not found: wanted the folder of a run of .*train_tagger"):
        make_annotator(f"tagger:{tmp_path / 'nowhere'}")
    other = tmp_path / "other"
    shutil.copytree(tagger / "run", other)
    shutil.rmtree(other / "model" / "tokenizer")
    WORDS.save(other / "model" / "tokenizer")
    with pytest.raises(DataError, match=r"made with tokenizer .* token ids would mean other tokens"):
        TaggerAnnotator(other)
    shutil.copytree(tagger / "run" / "model" / "tokenizer", other / "model" / "tokenizer", dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.held_out=0", "task.held_out: wanted a share between 0 and 1"),
        ("+task.corpora.sample.types={XYZ: A}", "sample.types: .* has no entity of type XYZ"),
        ("task.corpora.sample.repeat=0", "nothing is left to learn from"),
        ("task.corpora.sample.repeat=-1", "repeat: wanted 0 or more"),
        ("+task.corpora.mine.fil=x", "task.corpora.mine: 'fil' is unknown, wanted file, types or repeat"),
        ("+task.corpora.mine.repeat=2", r"task\.corpora\.mine\.file: "),
        ("+task.corpora.mine={file: x, repeat: many}", r"task\.corpora\.mine\.repeat: .*'many'"),
        ("task.corpora.sample=x", r"task\.corpora\.sample: wanted file, types and repeat, e\.g\. .*sample\.file=x"),
        ("task.tags.max_length=4096", "more than the model's"),
        ("task.tags.stride=200", "wanted 0 <= stride"),
        ("task.tags.cut=foo", "task.tags.cut: .*'foo'.*characters, none"),
        ("tokenizer_path=null", "give init=RUN"),
    ],
)
def test_wrong_settings_are_named(
    tagger: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, message: str
) -> None:
    monkeypatch.chdir(repository)
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        chosen = overrides(tagger, f"run_dir={tmp_path / 'run'}", override)
        with pytest.raises(ConfigError, match=message):
            train_tagger(compose_config("train_tagger", chosen))


def test_own_corpora_are_added_on_the_command_line(repository: Path) -> None:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        given = ["+task.corpora.mine.file=a.jsonl", "+task.corpora.other={file: b.tsv, repeat: 2}"]
        task = compose_config("train_tagger", ["task=ner", "init=x", "run_dir=y", "~task.corpora.kmou", *given]).task
    assert {name: (corpus.file[-7:], corpus.repeat) for name, corpus in task.corpora.items()} == {
        "klue": (".tsv.gz", 3), "mine": ("a.jsonl", 1), "other": ("b.tsv", 2),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sessions", "metrics"])
def test_a_corpus_is_not_named_after_a_file_of_the_run(
    tagger: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(repository)
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose_config("train_tagger", overrides(tagger, f"run_dir={tmp_path / 'run'}"))
    config.task.corpora = {name: config.task.corpora["sample"]}
    with pytest.raises(ConfigError, match=f"{name}: a run has a file {name}.jsonl of its own"):
        train_tagger(config)
