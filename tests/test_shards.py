"""Token shards: they hold what encoding each sentence gives, whatever the workers and shard sizes; faults are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from korbert.data.corpus import read_documents
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.encoding import EntityMode, encode
from korbert.entities import make_annotator
from korbert.errors import DataError
from korbert.sentences import split_sentences
from korbert.text import AnnotatedText
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.tokenizers.lookup import CharacterTokenizer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The sample's first documents, and one that shows nothing."""
    documents = (sample / "corpus.txt").read_text("utf-8").split("\n\n")[:7]
    path = tmp_path_factory.mktemp("source") / "corpus.txt"
    path.write_text("\n\n".join([*documents[:3], "\u200b", *documents[3:]]), "utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "syllable"
    CharacterTokenizer.train(source.read_text("utf-8").splitlines(), vocab_size=400).save(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_folder)


@pytest.mark.parametrize(("annotator", "mode"), [("mecab", EntityMode.BOTH), ("none", EntityMode.NONE)])
def test_hold_every_sentence(
    tmp_path: Path, source: Path, tokenizer_folder: Path, tokenizer: Tokenizer, annotator: str, mode: EntityMode
) -> None:
    manifest = build_shards(tmp_path / "shards", [source], tokenizer_folder, annotator, piece_characters=1000)
    corpus = ShardedCorpus(tmp_path / "shards", tokenizer.fingerprint)
    assert manifest.shards > 2
    find = make_annotator(annotator)
    number = sentences = tokens = 0
    for document in read_documents(source):
        encodings = [
            encode(sentence, tokenizer, mode)
            for paragraph in document
            for sentence in split_sentences(find.annotate(paragraph))
        ]
        encodings = [e for e in encodings if len(e)]
        if not encodings:
            continue
        assert corpus.sentence_lengths(number).tolist() == [len(e) for e in encodings]
        for index, encoding in enumerate(encodings):
            ids, entities, _ = corpus.sentences(number, index, index + 1)
            assert ids.tolist() == encoding.token_ids.tolist()
            assert entities.tolist() == encoding.entity_ids.tolist()
        whole = corpus.sentences(number, 0, len(encodings))
        assert whole[0].tolist() == np.concatenate([e.token_ids for e in encodings]).tolist()
        number += 1
        sentences += len(encodings)
        tokens += sum(map(len, encodings))
    assert (len(corpus), manifest.sentences, manifest.tokens) == (number, sentences, tokens)
    assert (manifest.documents, manifest.empty) == (number, 0)


def test_same_bytes_whatever_the_workers(tmp_path: Path, source: Path, tokenizer_folder: Path) -> None:
    for workers in (1, 2):
        build_shards(
            tmp_path / str(workers), [source], tokenizer_folder, "mecab", workers=workers, piece_characters=2000
        )
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "2").iterdir())
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_limit_and_progress(tmp_path: Path, source: Path, tokenizer_folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifest = build_shards(
        tmp_path / "s",
        [source],
        tokenizer_folder,
        max_documents=2,
        piece_characters=1,
        progress=lambda d, t: seen.append((d, t)),
    )
    assert manifest.documents == 2
    assert [documents for documents, _ in seen] == [1, 2]
    assert seen[-1][1] == manifest.tokens


def test_blank_documents_are_left_out_and_counted(tmp_path: Path, tokenizer_folder: Path) -> None:
    texts = ["", "세종은 왕이다.", " \n", "이순신"]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    manifest = build_shards(tmp_path / "shards", [path], tokenizer_folder)
    assert (manifest.documents, manifest.empty) == (2, 2)
    assert len(ShardedCorpus(tmp_path / "shards")) == 2


def test_build_that_fails_leaves_no_folder(tmp_path: Path, source: Path, tokenizer_folder: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes("나쁘다".encode("cp949"))
    with pytest.raises(DataError, match=r"bad\.txt: line 1"):
        build_shards(tmp_path / "shards", [source, bad], tokenizer_folder)
    assert not (tmp_path / "shards").exists()


def test_damage_is_named(tmp_path: Path, source: Path, tokenizer_folder: Path) -> None:
    folder = tmp_path / "shards"
    manifest = build_shards(folder, [source], tokenizer_folder)
    with pytest.raises(DataError, match=f"made with tokenizer {manifest.tokenizer}, but the tokenizer in use is abc"):
        ShardedCorpus(folder, "abc")
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    (folder / "00000-00000.tokens.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"00000-00000\.tokens\.npy: (missing|wanted)"):
        ShardedCorpus(folder)
    (folder / "00000-00000.tokens.npy").unlink()
    with pytest.raises(DataError, match=r"00000-00000\.tokens\.npy: (missing|wanted)"):
        ShardedCorpus(folder)
    whole = json.loads((folder / "manifest.json").read_text("utf-8"))
    for broken in ({"names": ["../kept/00000-00000"]}, {"files": {"/etc/passwd": [1, ""]}}, {"files": 3}):
        (folder / "manifest.json").write_text(json.dumps(whole | broken), "utf-8")
        with pytest.raises(
            DataError,
            match=r"manifest\.json: (content: not whole|(names|files): .* is no name of a file in this folder)",
        ):
            ShardedCorpus(folder)
    (folder / "manifest.json").write_text(json.dumps({"format": 99}), "utf-8")
    with pytest.raises(DataError, match="format: wanted 1 or 2, found 99"):
        ShardedCorpus(folder)
    assert len(ShardedCorpus(kept)) == manifest.documents


@pytest.mark.slow
def test_large_vocabularies_do_not_wrap(tmp_path: Path) -> None:
    """More than 2**16 entries need more than uint16."""
    ranges = [range(0x4E00, 0x9FA5), range(0xAC00, 0xD7A4), range(0x20000, 0x2A6D6)]
    characters = [chr(code) for codes in ranges for code in codes]
    folder = tmp_path / "large"
    CharacterTokenizer.train([" ".join(characters)], vocab_size=len(characters) + 7).save(folder)
    large = load_tokenizer(folder)
    assert len(large) > 1 << 16
    rare = large.vocabulary[-1].removeprefix("▁")
    (tmp_path / "rare.txt").write_text(f"{rare} {rare}", "utf-8")
    build_shards(tmp_path / "shards", [tmp_path / "rare.txt"], folder)
    ids, *_ = ShardedCorpus(tmp_path / "shards", large.fingerprint).sentences(0, 0, 1)
    assert ids.tolist() == encode(AnnotatedText(f"{rare} {rare}"), large, EntityMode.NONE).token_ids.tolist()
    assert ids.max() > 1 << 16
