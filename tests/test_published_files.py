"""Published tokenizers' files and the settings beside them: transformers is the oracle of ids, or they are refused."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from korbert.comparison.cost import cost
from korbert.config import CorpusConfig, DataConfig, TokenizerConfig
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.tasks.prepare import named_tokenizer, prepare_tokenizer
from korbert.tokenizers import CharacterTokenizer, Tokens, load_tokenizer, open_published

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
TEXTS = ["서울역에서 KTX를 타면", "大韓民國의 수도 Café", "세종(世宗)은 훈민정음을 만들었다."]
ENTRIES = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "서울",
        "##역",
        "##에서",
        "K",
        "##T",
        "##X",
        "k",
        "##t",
        "##x",
        "##를",
    ),
    *(
        "타",
        "##면",
        "大",
        "##韓",
        "##民",
        "##國",
        "##의",
        "韓",
        "民",
        "國",
        "의",
        "수도",
        "C",
        "c",
        "##a",
        "##f",
        "##e",
        "##é",
    ),
    *(
        "(",
        ")",
        "세종",
        "世",
        "宗",
        "##宗",
        "은",
        "훈민",
        "##정음",
        "##을",
        "만들",
        "##었다",
        ".",
        "ᄉ",
        "##ᅥ",
        "##ᄋ",
        "##ᅮ",
    ),
]


def vocabulary(folder: Path, settings: dict[str, Any], entries: list[str] = ENTRIES) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries), "utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"} | settings))
    return folder


def theirs(folder: Path, texts: list[str] = TEXTS) -> list[list[int]]:
    original = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return [original(text, add_special_tokens=False)["input_ids"] for text in texts]


def ours(folder: Path, texts: list[str] = TEXTS) -> list[list[int]]:
    return [open_published(folder).encode(text).ids.tolist() for text in texts]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("accents", [True, False, None])
@pytest.mark.parametrize("hanja", [True, False])
@pytest.mark.parametrize("json_too", [True, False])
def test_settings_of_bert(lower: bool, accents: bool | None, hanja: bool, json_too: bool, tmp_path: Path) -> None:
    """Also where a tokenizer.json of other settings is there."""
    settings = {"do_lower_case": lower, "strip_accents": accents, "tokenize_chinese_chars": hanja}
    folder = vocabulary(tmp_path, settings)
    if json_too:
        backend = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=not lower)
        backend.save(str(folder / "tokenizer.json"))
    assert ours(folder) == theirs(folder)


def test_settings_make_a_difference(tmp_path: Path) -> None:
    """The case that a lower-cased vocabulary of syllables needs, and the one that takes syllables apart."""
    found = ours(vocabulary(tmp_path, {"do_lower_case": True, "strip_accents": False}))
    assert [ENTRIES[i] for i in found[0]] == ["서울", "##역", "##에서", "k", "##t", "##x", "##를", "타", "##면"]
    apart = ours(vocabulary(tmp_path, {"do_lower_case": True}))
    assert ENTRIES.index("[UNK]") in apart[0]


def test_a_class_that_takes_the_file_as_it_is(tmp_path: Path) -> None:
    folder = vocabulary(tmp_path, {"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast"})
    tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=False).save(str(folder / "tokenizer.json"))
    assert ours(folder) == theirs(folder)


def test_a_vocabulary_without_capitals_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = [entry for entry in ENTRIES if entry == entry.lower() or entry[0] == "["]
    with caplog.at_level(logging.WARNING):
        open_published(vocabulary(tmp_path, {}))
        open_published(vocabulary(tmp_path, {"do_lower_case": False}, small))
        assert not caplog.records
        open_published(vocabulary(tmp_path, {}, small))
    assert "no entry has a capital letter" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_basic_tokenize": False}, r"tokenizer_config\.json: do_basic_tokenize: False is not followed"),
        ({"never_split": ["서울역"]}, "never_split"),
        ({"word_tokenizer_type": "mecab"}, "word_tokenizer_type"),
        (
            {"tokenizer_class": "BertJapaneseTokenizer"},
            r"vocab\.txt: vocabulary: BertJapaneseTokenizer does not read it",
        ),
        ({"strip_accents": "no"}, r"tokenizer_config\.json: strip_accents"),
    ],
)
def test_settings_that_cannot_be_followed(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_published(vocabulary(tmp_path, settings))


def test_settings_that_are_no_object(tmp_path: Path) -> None:
    folder = vocabulary(tmp_path, {})
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match=r"tokenizer_config\.json: top level: wanted a JSON object"):
        open_published(folder)


def test_special_tokens_of_other_names(tmp_path: Path) -> None:
    """As the settings call them; kept by a folder of ours."""
    entries = ["<none>", "<what>", "<from>", "<to>", "<hidden>", "[CLS]", "서울", "##역"]
    names = {"pad_token": "<none>", "unk_token": {"content": "<what>"}, "cls_token": "<from>", "mask_token": "<hidden>"}
    folder = vocabulary(tmp_path / "a", names | {"do_lower_case": False}, entries)
    (folder / "special_tokens_map.json").write_text(json.dumps({"sep_token": "<to>", "cls_token": "[CLS]"}))
    tokenizer = open_published(folder)
    assert tokenizer.special.ids.tolist() == [0, 1, 2, 3, 4, 8, 9]
    assert tokenizer.encode("서울역 부산").ids.tolist() == [6, 7, 1]
    tokenizer.save(tmp_path / "b")
    again = load_tokenizer(tmp_path / "b")
    assert (again.fingerprint, again.special) == (tokenizer.fingerprint, tokenizer.special)


def model(folder: Path, name: str, **options: Any) -> Path:
    texts = [
        f"{text} {word}" for text in TEXTS for word in ("대한민국의 수도는 서울이다.", "한글은 글자다.", "가나다라")
    ]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=70, hard_vocab_limit=False, minloglevel=2,
        **options,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(written.getvalue())
    return folder


@pytest.mark.parametrize("by", ["tokenizer_config", "config"])
def test_ids_of_xlm_roberta(by: str, tmp_path: Path) -> None:
    folder = model(tmp_path, "sentencepiece.bpe.model")
    (folder / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    if by == "tokenizer_config":
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    original = transformers.XLMRobertaTokenizer.from_pretrained(str(folder))
    tokenizer = open_published(folder)
    assert ours(folder, [*TEXTS, "龘"]) == [original(t, add_special_tokens=False)["input_ids"] for t in [*TEXTS, "龘"]]
    names = ("pad", "unk", "cls", "sep", "mask")
    assert [getattr(tokenizer.special, n) for n in names] == [getattr(original, f"{n}_token_id") for n in names]
    assert len(tokenizer) == len(original) + 2
    tokenizer.save(tmp_path / "ours")
    assert load_tokenizer(tmp_path / "ours").encode(TEXTS[0]).ids.tolist() == ours(folder)[0]
    raw = open_published(folder / "sentencepiece.bpe.model")
    assert raw.special.unk == 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("spiece.model", {"tokenizer_class": "AlbertTokenizer"}, "AlbertTokenizer has other ids than it, or changes"),
        ("spiece.model", {"do_lower_case": True}, "says do_lower_case"),
        ("sentencepiece.bpe.model", {}, "says whose it is"),
        (
            "sentencepiece.bpe.model",
            {"tokenizer_class": "CamembertTokenizerFast"},
            "CamembertTokenizerFast has other ids",
        ),
    ],
)
def test_ids_that_are_not_the_models(name: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = model(tmp_path, name)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=message):
        open_published(folder)
    assert open_published(folder / name).kind == "sentencepiece_model"


def test_what_is_unknown_is_what_the_library_says(tmp_path: Path) -> None:
    """Whatever it is called."""
    tokenizer = open_published(model(tmp_path, "m.model", unk_piece="<UNK>") / "m.model")
    assert tokenizer.encode("龘").ids.tolist()[-1] == tokenizer.special.unk == 0
    assert cost(tokenizer, ["서울 龘龘龘"]).lost == pytest.approx(3 / 5)
    made = {"word": tokenizers.models.WordPiece({"<unknown>": 0, "서울": 1}, unk_token="<unknown>")}
    made["unigram"] = tokenizers.models.Unigram([("서울", -1.0), ("<unknown>", -9.0)], unk_id=1)
    for kind, backend in made.items():
        path = tmp_path / f"{kind}.json"
        whole = tokenizers.Tokenizer(backend)
        whole.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        whole.save(str(path))
        measured = cost(open_published(path), ["서울 부산"])
        assert (measured.unknown, measured.lost) == (0.5, 0.5), kind


@pytest.mark.parametrize("entry", [None, "vocabulary", "added"])
def test_letters_that_bpe_passes_over_are_unknown(entry: str | None, tmp_path: Path) -> None:
    """The library has no token for them, and wrong spans behind them."""
    entries = {"가": 0, "나": 1, "e": 2} | ({"[UNK]": 3} if entry == "vocabulary" else {})
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(entries, []))
    backend.normalizer = tokenizers.normalizers.NFC()
    if entry == "added":
        backend.add_special_tokens(["[UNK]"])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_published(tmp_path)
    unknown = tokenizer.special.unk
    assert (unknown, len(tokenizer)) == (3, 10)
    for text, tokens in (
        ("가다나", [(0, 0, 1), (unknown, 1, 2), (1, 2, 3)]),
        ("다가다", [(unknown, 0, 1), (0, 1, 2), (unknown, 2, 3)]),
        ("\u1100\u1161다나", [(0, 0, 2), (unknown, 2, 3), (1, 3, 4)]),
        ("e\u0301가", [(unknown, 0, 2), (0, 2, 3)]),  # composed, it is another letter
    ):
        found = tokenizer.encode(text)
        assert list(zip(found.ids.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True)) == tokens, text
    assert cost(tokenizer, ["가다나 다"]).lost == 2 / 4
    tokenizer.save(tmp_path / "ours")
    assert load_tokenizer(tmp_path / "ours").encode("가다나").ids.tolist() == [0, unknown, 1]


def test_marks_that_are_taken_off_are_their_letters(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"e": 0, "f": 1, "?": 2}, [], unk_token="?"))
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFD(), tokenizers.normalizers.StripAccents()]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    tokens = open_published(tmp_path).encode("e\u0323\u0301fe")
    assert (tokens.starts.tolist(), tokens.ends.tolist()) == ([0, 3, 4], [3, 4, 5])


def test_characters_in_no_token_are_lost() -> None:
    """But for those that nobody sees."""

    class Skipping(CharacterTokenizer):
        def encode(self, text: str, boundaries: Iterable[int] = ()) -> Tokens:
            return Tokens(np.array([9]), np.array([1]), np.array([2]))

    tokenizer = Skipping.train(["가나다"], 20)
    assert cost(tokenizer, ["나가"]).lost == 1 / 2
    assert cost(tokenizer, ["나가 \u200b\u0301다"]).lost == pytest.approx(3 / 5)


def test_a_library_that_cannot_encode(tmp_path: Path) -> None:
    """It opens without an entry for the unknown, and fails at the first one."""
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"서울": 0}, unk_token="[UNK]")).save(str(tmp_path / "words.json"))
    tokenizer = open_published(tmp_path / "words.json")
    assert tokenizer.encode("서울").ids.tolist() == [0]
    with pytest.raises(KorbertError, match=r"words\.json: cannot encode a text: .*Missing \[UNK\]"):
        tokenizer.encode("부산")


def test_an_old_file_without_a_type(tmp_path: Path) -> None:
    tokenizers.BertWordPieceTokenizer(str(vocabulary(tmp_path, {}) / "vocab.txt"), lowercase=False).save(
        str(tmp_path / "tokenizer.json")
    )
    content = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    newer = ours(tmp_path / "tokenizer.json")
    del content["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    assert ours(tmp_path / "tokenizer.json") == newer
    assert newer[0][0] == ENTRIES.index("서울")


def test_whose_folder_it_is(tmp_path: Path) -> None:
    """A vocabulary may hold any word, "fingerprint" too."""
    folder = vocabulary(tmp_path / "theirs", {}, [*ENTRIES, "fingerprint"])
    tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=False).save(str(folder / "tokenizer.json"))
    assert named_tokenizer(str(folder)).kind == "published"
    open_published(folder).save(tmp_path / "ours")
    assert named_tokenizer(str(tmp_path / "ours")).kind == "given"


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "empty.model").touch()
    with pytest.raises(DataError, match=r"empty\.model: model: not a SentencePiece model \(the file is empty\)"):
        open_published(tmp_path / "empty.model")


def test_settings_that_would_change_nothing(tmp_path: Path) -> None:
    corpus, data = CorpusConfig(files=[]), DataConfig(cache=str(tmp_path / "cache"))
    folder = vocabulary(tmp_path / "a", {"do_lower_case": False})
    for setting in ({"vocab_size": 999}, {"split": "mecab"}, {"character_coverage": 0.99}):
        (key,) = setting
        with pytest.raises(ConfigError, match=rf"tokenizer\.{key}=.*: of no use"):
            prepare_tokenizer(TokenizerConfig(kind="published", path=str(folder), **setting), corpus, data)
    lower = TokenizerConfig(kind="published", path=str(folder))
    lower.normalizer.lowercase = True
    with pytest.raises(ConfigError, match=r"lowercase=true: .*vocab\.txt says itself"):
        prepare_tokenizer(lower, corpus, data)
    (folder / "tokenizer_config.json").unlink()
    made = load_tokenizer(prepare_tokenizer(lower, corpus, data))
    assert np.array_equal(made.encode("K").ids, [ENTRIES.index("k")])
