"""Recurring-span selection: questions that have their answer in the passage and not in themselves."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import REPOSITORY
from hydra import initialize_config_dir
from models import CONFIG, MODERN, shaken

from korbert.config import compose_config
from korbert.data.batching import collate_pretraining
from korbert.data.masking import MaskingConfig
from korbert.data.nouns import _JOSA
from korbert.data.pretraining import PretrainingExample
from korbert.data.selection import SelectionConfig, SelectionPassages, mentions
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.encoding import EntityMode
from korbert.errors import ConfigError
from korbert.model import IGNORE_INDEX, PretrainingModel
from korbert.tasks.prepare import prepare_shards, prepare_tokenizer
from korbert.tasks.pretrain import pretrain
from korbert.tokenizers import SpecialTokens, Tokenizer, load_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
SPECIAL = SpecialTokens()


def make(
    corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode, length: int = 160, **selection: Any
) -> SelectionPassages:
    return SelectionPassages(
        *corpus, mode, max_length=length, masking=MaskingConfig(), seed=1, selection=SelectionConfig(1.0, **selection)
    )


def shown(example: PretrainingExample) -> np.ndarray:
    """The token ids before masking."""
    return np.where(example.mlm_labels == IGNORE_INDEX, example.token_ids, example.mlm_labels)


def parts(example: PretrainingExample) -> tuple[np.ndarray, np.ndarray]:
    """Question and passage as they were before masking."""
    ids = shown(example)
    first, last = np.flatnonzero(ids == SPECIAL.sep)
    assert ids[0] == SPECIAL.cls
    assert last == len(ids) - 1
    assert example.segment_ids.tolist() == [0] * (first + 1) + [1] * (last - first)
    return ids[1:first], ids[first + 1 : last]


def contains(tokens: np.ndarray, part: np.ndarray) -> bool:
    return any(np.array_equal(tokens[i : i + len(part)], part) for i in range(len(tokens) - len(part) + 1))


@pytest.mark.parametrize("mode", [EntityMode.SPLIT, EntityMode.MARKERS, EntityMode.BOTH])
@pytest.mark.parametrize("echo", [0.0, 1.0])
def test_answers_are_in_the_passage_and_not_shown_in_the_question(
    corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode, echo: float
) -> None:
    shards, _ = corpus
    data = make(corpus, mode, echo=echo, drop=0.0)
    asked = hinted = 0
    for request in data.epoch(0).requests(np.arange(len(data.epoch(0)))):
        example = data.make(request)
        assert len(example) <= 160
        if not example.asked:
            continue
        asked += 1
        question, _ = parts(example)
        assert 2 <= len(question) <= 40
        begin = len(question) + 2
        ids = shown(example)
        ((query, places),) = [(one.query, one.answers) for one in example.asked]
        assert query == 0
        answers = [ids[a : b + 1] for a, b in places]
        for (a, b), answer in zip(places, answers, strict=True):
            assert begin <= a <= b < len(example) - 1
            assert np.array_equal(answer, answers[0])  # one entity, wherever it stands
            assert example.allowed[a : b + 1].all()
            assert not np.isin(answer, SPECIAL.ids).any()
            if mode.has_markers:
                assert ids[a - 1] == SPECIAL.ent
                assert ids[b + 1] == SPECIAL.ent_end
            if mode.has_embedding:
                assert example.entity_ids[a : b + 1].all()
        whole, *_ = shards.tokens(int(request[2][0]), 0, shards.document_length(int(request[2][0])))
        named = [whole[a:b] for a, b in mentions(whole, SPECIAL)]
        assert any(np.array_equal(answers[0], name) for name in named)
        hinted += int(SPECIAL.mask in question)
        if mode.has_markers:
            inside = [question[a:b] for a, b in mentions(question, SPECIAL)]
            assert not any(np.array_equal(answers[0], name) for name in inside)
        if echo == 1.0 and SPECIAL.mask in question:  # what stands before the gap, stands in the document
            before = question[: int(np.flatnonzero(question == SPECIAL.mask)[0])]
            assert contains(whole[~np.isin(whole, SPECIAL.ids)], before[~np.isin(before, SPECIAL.ids)])
    assert asked > 40
    assert 0.3 < hinted / asked < 0.7


def test_allowed_are_the_passage_s_own_tokens_and_cls(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    example = next(e for e in make(corpus, EntityMode.BOTH).examples(0, 99) if e.asked)
    question, passage = parts(example)
    expected = [True, *[False] * (len(question) + 1), *~np.isin(passage, (SPECIAL.ent, SPECIAL.ent_end)), False]
    assert example.allowed.tolist() == expected  # type: ignore[union-attr]


def test_share_echo_and_drop_do_what_they_say(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    def asked(**options: Any) -> float:
        settings = SelectionConfig(**({"share": 1.0} | options))
        data = SelectionPassages(
            *corpus, EntityMode.BOTH, max_length=160, masking=MaskingConfig(), seed=1, selection=settings
        )
        return float(np.mean([bool(e.asked) for e in data.examples(0, 300)]))

    assert asked(echo=1.0) > 0.9
    assert asked(echo=1.0, share=0.3) == pytest.approx(0.3, abs=0.12)
    assert asked(share=0.0) == 0.0
    lengths = []
    for drop in (0.0, 1.0):
        made = make(corpus, EntityMode.SPLIT, echo=1.0, drop=drop).examples(0, 99)
        lengths.append(np.mean([len(parts(e)[0]) for e in made if e.asked]))
    assert lengths[1] < 0.8 * lengths[0]


def test_masking_of_sequences_that_ask(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    settings = SelectionConfig(0.5, masking_rate=0.05)
    data = SelectionPassages(
        *corpus, EntityMode.BOTH, max_length=160, masking=MaskingConfig(0.4), seed=1, selection=settings
    )
    shares: dict[bool, list[float]] = {True: [], False: []}
    for example in data.examples(0, 300):
        ordinary = ~np.isin(example.token_ids, data.special.ids) | (example.mlm_labels >= 0)
        if ordinary.sum() >= 40:
            shares[bool(example.asked)].append((example.mlm_labels >= 0).sum() / ordinary.sum())
    assert np.allclose(shares[True], 0.05, atol=0.02)
    assert np.allclose(shares[False], 0.4, atol=0.02)
    assert min(map(len, shares.values())) > 5


def test_loss_by_hand(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    """Minus the log of the summed probability of right starts, and of right ends, halved; questions only."""
    made = make(corpus, EntityMode.BOTH, echo=0.5).examples(0, 12)
    questions = [e for e in made if e.asked]
    assert 0 < len(questions) < len(made)
    sizes = {"vocab_size": len(corpus[1]), "max_positions": 160}
    model = shaken(PretrainingModel(type(CONFIG)(**{**vars(CONFIG), **sizes}), ("mlm", "selection")), std=0.05)
    batch = collate_pretraining(made, pad_id=0)
    assert batch.target_counts()["selection"] == len(questions)
    with torch.no_grad():
        value = float(model.losses(batch)["selection"])
        packed = float(model.losses(collate_pretraining(made, pad_id=0, packed=True))["selection"])
        expected = 0.0
        for example in questions:
            hidden = model.encode(collate_pretraining([example], pad_id=0))[0]
            logits = model.span.scores(hidden).double().numpy()  # type: ignore[union-attr, operator]
            for column in (0, 1):
                e = np.exp(logits[:, column]) * example.allowed
                right = [place[column] for place in example.asked[0].answers]
                expected -= np.log(e[right].sum() / e.sum()) / 2
    assert value == pytest.approx(expected, rel=1e-4)
    assert packed == pytest.approx(expected, rel=1e-4)
    nothing = collate_pretraining([e for e in made if not e.asked], pad_id=0)
    assert model.losses(nothing).keys() == {"mlm"}


def test_words_can_be_asked_for_where_there_are_no_entities(
    corpus: tuple[ShardedCorpus, Tokenizer], sample: Path, tmp_path: Path
) -> None:
    _, tokenizer = corpus
    tokenizer.save(tmp_path / "tokenizer")
    build_shards(tmp_path / "shards", [sample / "corpus.txt"], tmp_path / "tokenizer")
    plain = (ShardedCorpus(tmp_path / "shards", tokenizer.fingerprint), tokenizer)
    made = make(plain, EntityMode.NONE, echo=1.0, words=1.0).examples(0, 99)
    assert sum(bool(example.asked) for example in made) > 30
    with pytest.raises(ConfigError, match=r"choose an annotator.*or ask for words alone"):
        make(plain, EntityMode.NONE, echo=1.0, words=0.9)


def test_a_passage_in_which_no_word_begins(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    """One token longer than a passage: there is nothing to ask for, and no crash."""
    inside = np.flatnonzero(~corpus[1].begins_word)  # type: ignore[attr-defined]
    ids = inside[~np.isin(inside, SPECIAL.ids)][:5].astype(np.int32)
    assert make(corpus, EntityMode.NONE, echo=1.0, words=1.0)._nouns(ids) == []


def test_words_before_a_josa_are_asked_for(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    """They begin a word in the passage and a josa follows; the question lacks them where it stood."""
    vocabulary = corpus[1].vocabulary
    data = make(corpus, EntityMode.SPLIT, echo=1.0, words=1.0, drop=0.0)
    made = [example for example in data.examples(0, 300) if example.asked]
    assert len(made) > 150
    followed = []
    for example in made:
        ids = shown(example)
        for a, b in example.asked[0].answers:
            assert vocabulary[ids[a]].startswith("▁")
            followed.append(vocabulary[ids[b + 1]])
    assert {"은", "는", "이", "의", "을"} <= set(followed)
    assert not {"습", "했"} & set(followed)


@pytest.mark.parametrize("kind", [{"words": 1.0, "echo": 1.0}, {"echo": 1.0}, {"echo": 0.0}])
@pytest.mark.parametrize("mode", [EntityMode.SPLIT, EntityMode.BOTH])
def test_no_question_shows_its_answer(
    corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode, kind: dict[str, float]
) -> None:
    """Nor in a compound or a longer name; but for a syllable within words, which may be there for its own sake."""
    data = make(corpus, mode, drop=0.0, **kind)
    text = [token for token in range(len(corpus[1])) if token not in (SPECIAL.ent, SPECIAL.ent_end)]
    checked = 0
    for example in data.examples(0, 300):
        if example.asked:
            question, _ = parts(example)
            ids = shown(example)
            a, b = example.asked[0].answers[0]
            answer = ids[a : b + 1][np.isin(ids[a : b + 1], text)]
            if len(answer) > 1 or data._begins_word[answer[0]]:
                checked += 1
                assert not contains(question[np.isin(question, text)], answer)
    assert checked > 100


@pytest.mark.parametrize("mode", [EntityMode.SPLIT, EntityMode.EMBEDDING, EntityMode.BOTH])
def test_the_same_words_are_asked_for_whatever_is_marked(
    corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode
) -> None:
    """As often as in text without markers, entities are among them, and may be left out of a question."""
    shards, _ = corpus
    data, undropped = (make(corpus, mode, echo=1.0, words=1.0, drop=drop) for drop in (1.0, 0.0))
    words = entities = asked = left = whole = 0
    for document in range(len(shards)):
        ids, marked, _ = shards.tokens(document, 0, shards.document_length(document))
        text = ~np.isin(ids, (SPECIAL.ent, SPECIAL.ent_end))
        found = data._words(ids, 0, len(ids))
        assert [ids[a:b][text[a:b]].tolist() for a, b in found] == [
            ids[text][a:b].tolist() for a, b in data._nouns(ids[text])
        ]
        assert all(text[a] and text[b - 1] for a, b in found)
        words += len(found)
        entities += sum(bool(marked[a:b].any()) for a, b in found)
    assert entities > 0.1 * words
    epoch = data.epoch(0)
    for _, _, row in epoch.requests(np.arange(min(150, len(epoch)))):
        document, first, last = map(int, row)
        cloze, same = (made._ask(document, first, last, np.random.default_rng(row)) for made in (data, undropped))
        if cloze is not None and same is not None:
            asked += 1
            for a, b in mentions(cloze.tokens.ids, SPECIAL):  # no marks around nothing, nor around a hint alone
                assert (cloze.tokens.ids[a:b] != SPECIAL.mask).any()
            left += np.count_nonzero(cloze.tokens.entities)
            whole += np.count_nonzero(same.tokens.entities)
    assert asked > 100
    assert left < 0.8 * whole


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("[ENT] 세종 [/ENT] 은", ["세종"]),
        ("[ENT] 세종 [/ENT] 대왕 은", ["세종 [/ENT] 대왕"]),
        ("있다 [ENT] 나라 의 [/ENT]", ["나라"]),
        ("[ENT] 세종 [/ENT] 있다", []),
    ],
)
def test_words_beside_markers_by_hand(corpus: tuple[ShardedCorpus, Tokenizer], text: str, asked: list[str]) -> None:
    """A josa behind a closing marker is the josa of the word before it."""
    tokenizer = corpus[1]
    marks = {"[ENT]": SPECIAL.ent, "[/ENT]": SPECIAL.ent_end}
    ids: list[int] = []
    begins = {"세종", "나라", "있다"}
    for piece in text.split():
        if piece in marks:
            ids.append(marks[piece])
        else:
            ids += tokenizer.encode_ids(piece if piece in begins else "가" + piece).tolist()[piece not in begins :]
    data = make(corpus, EntityMode.BOTH, echo=1.0, words=1.0)
    array = np.array(ids, dtype=np.int32)
    found = [tokenizer.decode(array[a:b]) for a, b in data._words(array, 0, len(array))]
    assert [" ".join(one.split()) for one in found] == asked


@pytest.mark.parametrize(
    "name",
    ["syllable", "byte_bpe", "subcharacter_bpe", "subcharacter_wordpiece", "morpheme_mecab_tagged", "mecab_bpe_tagged"],
)
def test_words_are_asked_for_whatever_a_josa_is_written_as(tmp_path: Path, name: str) -> None:
    shards, tokenizer = prepared(tmp_path, name)
    data = make((shards, tokenizer), EntityMode.NONE, 200, echo=1.0, words=1.0, drop=0.0)
    made = [example for example in data.examples(0, 60) if example.asked]
    assert len(made) > 40
    for example in made:
        ids = shown(example)
        for a, b in example.asked[0].answers:
            assert tokenizer.begins_word[ids[a]]  # type: ignore[attr-defined]
            behind = tokenizer.decode(ids[b + 1 : b + 2]).removeprefix("##")  # a word's own tag is the word's
            assert behind.startswith(tuple("은는이가을를의에으로와과도부까들보"))


def test_words_are_asked_for_before_a_josa_of_several_tokens(tmp_path: Path) -> None:
    """Jamo: what is asked for begins a word, ends with a syllable, and is followed by a josa and the next word."""
    shards, tokenizer = prepared(tmp_path, "jamo")
    data = make((shards, tokenizer), EntityMode.NONE, 400, echo=1.0, words=1.0, drop=0.0, question_length=120)
    made = [example for example in data.examples(0, 60) if example.asked]
    assert len(made) > 40
    behind = set()
    for example in made:
        ids = shown(example)
        for a, b in example.asked[0].answers:
            assert tokenizer.begins_word[ids[a]]
            following = b + 1 + int(np.argmax(tokenizer.begins_word[ids[b + 1 :]] | (ids[b + 1 :] == SPECIAL.sep)))
            behind.add(unicodedata.normalize("NFC", tokenizer.decode(ids[b + 1 : following])))
    assert {"은", "는", "이", "의", "을", "에서"} <= behind
    assert all(josa in _JOSA for josa in behind)


def test_whole_words_are_asked_for_where_they_are_tokens(tmp_path: Path) -> None:
    shards, tokenizer = prepared(tmp_path, "word")
    made = [e for e in make((shards, tokenizer), EntityMode.NONE, echo=1.0, words=1.0).examples(0, 60) if e.asked]
    assert len(made) > 40
    for example in made:
        for a, b in example.asked[0].answers:
            assert a == b
            assert tokenizer.begins_word[shown(example)[a]]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("jamo", "나라는 사과와 각이 있다", ["나라", "사과", "각"]),
        ("jamo", "학교에서 서울까지", ["학교", "서울"]),  # the longest josa: not 학교에 + 서
        ("jamo", "가 은", []),  # a josa alone is no word
        ("syllable", "국가는 처음으로 서울에서 효과를", ["국가", "처음", "서울", "효과"]),
        ("syllable", "습도를 호랑이는 제도에서", ["습도", "호랑이", "제도"]),  # 도 and 이 are the nouns' own
        ("syllable", "사과 효과 장인들은 학교에서의", ["장인", "학교"]),  # 과 is no josa behind a vowel
        ("sentencepiece_unigram", "국가는 처음으로 서울에서 효과를 습도를", ["국가", "처음", "서울", "효과", "습도"]),
        ("wordpiece", "국가는 처음으로 서울에서 효과를", ["국가", "서울", "효과"]),  # ▁처음으로 is one token of it
        ("word", "나무는 있다", ["나무는", "있다"]),
    ],
)
def test_where_words_end_by_hand(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    shards, tokenizer = prepared(tmp_path, name, text if name in ("jamo", "syllable", "word") else "")
    data = make((shards, tokenizer), EntityMode.NONE, echo=1.0, words=1.0)
    ids = tokenizer.encode_ids(text)
    found = [unicodedata.normalize("NFC", tokenizer.decode(ids[a:b])) for a, b in data._nouns(ids)]
    assert found == expected


def prepared(cache: Path, name: str, more: str = "") -> tuple[ShardedCorpus, Tokenizer]:
    """The sample's text, and `more` of it, as tokens of that tokenizer."""
    corpus = cache / "corpus.txt"
    corpus.write_text((REPOSITORY / "data/sample/corpus.txt").read_text("utf-8") + f"\n{more}\n" * 3, "utf-8")
    wanted = [f"tokenizer={name}", "tokenizer.vocab_size=1500", "entities=none", f"data.cache={cache}", "run_dir=x"]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose_config("pretrain", [*wanted, f"corpus.files=[{corpus}]"])
    folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    return prepare_shards(folder, config.entities, config.corpus, config.data, 1), load_tokenizer(folder)


def test_questions_inside_a_passage(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    """Every [MASK] that hides a mention asks for the one mention that is left, and none of them else shows it."""
    data = make(corpus, EntityMode.BOTH, 400, inside=1.0)
    asked = 0
    for example in data.examples(0, 400):
        ids = shown(example)
        assert not example.segment_ids.any()
        asking = [question.query for question in example.asked]
        assert sorted(asking) == np.flatnonzero(ids == SPECIAL.mask).tolist()
        assert (example.mlm_labels[asking] == IGNORE_INDEX).all()
        named = [ids[a:b].tolist() for a, b in mentions(ids, SPECIAL)]
        for question in example.asked:
            ((a, b),) = question.answers
            asked += 1
            assert ids[a - 1] == SPECIAL.ent
            assert ids[b + 1] == SPECIAL.ent_end
            assert named.count(ids[a : b + 1].tolist()) == 1
            assert example.allowed[[a, b]].all()  # type: ignore[index]
    assert asked > 60


def test_a_question_is_scored_against_its_own_query(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    """Of several questions to one passage, each by hand: q · h / sqrt(D) and the token's own score."""
    made = [e for e in make(corpus, EntityMode.BOTH, 400, inside=0.5).examples(0, 99) if e.asked][:9]
    assert max(len(e.asked) for e in made) > 1
    sizes = {"vocab_size": len(corpus[1]), "max_positions": 400, "span_query": True}
    model = shaken(PretrainingModel(type(CONFIG)(**{**vars(MODERN), **sizes}), ("mlm", "selection")), std=0.05)
    expected = 0.0
    with torch.no_grad():
        for example in made:
            hidden = model.encode(collate_pretraining([example], pad_id=0))[0]
            own, query = model.span.scores(hidden).double().numpy(), model.span.query(hidden).double().numpy()
            for question in example.asked:
                asks = query[question.query].reshape(2, -1)
                for column in (0, 1):
                    logits = own[:, column] + hidden.double().numpy() @ asks[column] / np.sqrt(CONFIG.hidden_size)
                    e = np.exp(logits) * example.allowed
                    right = [place[column] for place in question.answers]
                    expected -= np.log(e[right].sum() / e.sum()) / 2
        for packed in (False, True):
            value = float(model.losses(collate_pretraining(made, pad_id=0, packed=packed))["selection"])
            assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("inside", [0.0, 1.0])
def test_gradients_packed_equal_padded(corpus: tuple[ShardedCorpus, Tokenizer], inside: float) -> None:
    made = make(corpus, EntityMode.BOTH, inside=inside).examples(0, 12)
    sizes = {"vocab_size": len(corpus[1]), "max_positions": 160, "span_query": True}
    model = shaken(PretrainingModel(type(CONFIG)(**{**vars(CONFIG), **sizes}), ("mlm", "selection")), std=0.05)
    gradients = []
    for packed in (False, True):
        model.losses(collate_pretraining(made, pad_id=0, packed=packed))["selection"].backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        model.zero_grad(set_to_none=True)
    assert {"span.scores.weight", "span.query.weight"} <= gradients[0].keys()
    for name, value in gradients[0].items():
        assert (value - gradients[1][name]).abs().max() <= 1e-4 * max(1.0, float(value.abs().max())), name


@pytest.mark.parametrize("options", [{"share": 1.5}, {"echo": -1.0}, {"drop": 2.0}, {"question_length": 1}])
def test_settings_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"task\.selection\.{next(iter(options))}"):
        SelectionConfig(**options)


def test_corpus_without_entities_is_refused(
    tmp_path: Path, sample: Path, corpus: tuple[ShardedCorpus, Tokenizer]
) -> None:
    corpus[1].save(tmp_path / "tokenizer")
    build_shards(tmp_path / "shards", [sample / "corpus.txt"], tmp_path / "tokenizer")
    bare = ShardedCorpus(tmp_path / "shards")
    with pytest.raises(ConfigError, match="choose an annotator"):
        make((bare, corpus[1]), EntityMode.SPLIT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["recipe=selection", "task.max_length=48"], r"leaves too little of task\.max_length=48.*wanted 56 or more"),
        (
            ["recipe=selection", "task.curriculum=[{start: 0, max_length: 96}, {start: 0.5, max_length: 32}]"],
            r"leaves too little of task\.curriculum\[1\]\.max_length=32",
        ),
        (["recipe=modern", "task.selection.share=1", "entities=none"], "choose an annotator"),
    ],
)
def test_what_cannot_be_asked_is_said_before_the_corpus_is_read(
    tmp_path: Path, given: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose_config("pretrain", [*given, f"run_dir={tmp_path}/run", f"data.cache={tmp_path}/cache"])
    with pytest.raises(ConfigError, match=message):
        pretrain(config)
    assert not (tmp_path / "cache").exists()
