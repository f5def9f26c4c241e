"""Building corpora: the same bytes however it is done and interrupted, every document accounted for, faults named."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doors import run_door
from hydra import initialize_config_dir

from korbert.config import CorpusConfig, DataConfig, TokenizerConfig, compose_config
from korbert.data import building, wikidump
from korbert.data.building import Builder
from korbert.data.filters import Filters, Reason
from korbert.data.korquad import read_korquad
from korbert.data.piecework import Done, Recipe
from korbert.data.shardfiles import Manifest
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.encoding import EntityMode, encode
from korbert.errors import ConfigError, DataError
from korbert.files import read_json
from korbert.sentences import split_sentences
from korbert.tasks.build_corpus import build_corpus
from korbert.tasks.prepare import prepare_shards, prepare_tokenizer
from korbert.tasks.pretrain import split_documents
from korbert.text import AnnotatedText
from korbert.tokenizers import load_tokenizer
from korbert.tokenizers.lookup import CharacterTokenizer
from tests.test_wikidump import dump

FILTERS = Filters(min_characters=30, min_korean=0.5, duplicates=True, near_duplicates=0.8)


def sentence(rng: random.Random) -> str:
    return " ".join("".join(rng.choices("가나다라마바사아자차", k=rng.randint(2, 4))) for _ in range(8)) + "."


def paragraphs(rng: random.Random, count: int) -> list[str]:
    return [" ".join(sentence(rng) for _ in range(3)) for _ in range(count)]


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Sixty documents with something for each filter."""
    rng = random.Random(7)
    texts = ["\n".join(paragraphs(rng, 4)) for _ in range(60)]
    texts[7] = "짧다."
    texts[11] = "Only English is written here, and quite a lot of it."
    texts[20] = texts[5].replace(" ", "  ")  # exact, in what counts
    texts[41] = texts[3].replace(texts[3].split()[9], "다른말")  # near, in another file
    texts[50] = "\u200b"
    texts[55] = ""
    return texts


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> tuple[Path, ...]:
    """The documents in three files."""
    folder = tmp_path_factory.mktemp("sources")
    files = []
    for number, rows in enumerate(np.split(np.arange(60), [25, 26])):
        lines = [json.dumps({"title": f"제목 {row}", "text": documents[row]}, ensure_ascii=False) for row in rows]
        files.append(folder / f"{number}.jsonl.xz")
        files[-1].write_bytes(lzma.compress("\n".join(lines).encode()))
    return tuple(files)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "syllable"
    CharacterTokenizer.train(documents, vocab_size=200).save(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(sources: tuple[Path, ...], tokenizer_folder: Path) -> Recipe:
    return Recipe(sources, tokenizer_folder, "mecab", filters=FILTERS, piece_characters=1500)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "shards"
    Builder(folder, recipe).build()
    return contents(folder)


@pytest.mark.parametrize("workers", [2, 3])
def test_same_bytes_whatever_the_workers(
    tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes], workers: int
) -> None:
    Builder(tmp_path / "shards", recipe, workers=workers).build()
    assert contents(tmp_path / "shards") == undisturbed
    assert "manifest.json" in undisturbed
    assert len(undisturbed) > 40  # many pieces, and nothing left over


def test_somebody_elses_build_folder_is_kept(tmp_path: Path, recipe: Recipe) -> None:
    """It was removed at the end of a build."""
    thesis = tmp_path / "shards" / "build" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("thesis", "utf-8")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"output=.*shards/build is not of a build of shards"):
            Builder(thesis.parents[1], recipe).build()
        assert list(contents(tmp_path)) == ["shards/build/thesis.txt"]
    thesis.rename(tmp_path / "thesis.txt")
    (thesis.parent / "recipe.lock").touch()  # of a build that was killed early
    builder = Builder(thesis.parents[1], recipe)
    builder.build()
    assert not thesis.parent.exists()
    thesis.parent.mkdir()
    thesis.touch()
    assert builder.finished() is not None
    assert thesis.exists()


def test_an_output_that_cannot_be(tmp_path: Path) -> None:
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        config = compose_config("build_corpus", ["output=''", f"run_dir={tmp_path}/run"])
    for stage in ("all", "check"):
        with pytest.raises(ConfigError, match="output: wanted a folder, got an empty name"):
            build_corpus(replace(config, stage=stage))
    (tmp_path / "README.md").touch()
    with pytest.raises(ConfigError, match=r"output=.*README\.md: this is a file; wanted a folder"):
        build_corpus(replace(config, output=str(tmp_path / "README.md")))
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_same_bytes_by_parts_in_any_order(tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "shards"
    jobs = [Builder(folder, recipe, part=part, parts=3) for part in (2, 0, 1)]
    for number, job in enumerate(jobs):
        with job.working():
            job.sign()
            assert job.decide() == (number == 2)  # when all are signed
    for number, job in enumerate([jobs[1], jobs[0], jobs[2]]):
        with job.working():
            assert job.decide()
            job.encode()
            assert (job.merge() is not None) == (number == 2)
            if number < 2:
                with pytest.raises(DataError, match=r"manifest\.json: file: not found: .*not finished"):
                    ShardedCorpus(folder)
                assert "pieces are missing" in job.unfinished()
    assert contents(folder) == undisturbed


def test_parts_share_many_files_without_reading_each_other_s(tmp_path: Path, recipe: Recipe) -> None:
    files = []
    for number in range(6):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text("\n\n".join(paragraphs(random.Random(number), 3)), "utf-8")
    some = replace(recipe, sources=tuple(files), filters=Filters(), annotator="none")
    Builder(tmp_path / "whole", some).build()
    done: list[Done] = []
    for part in range(3):
        job = Builder(tmp_path / "parts", some, part=part, parts=3, progress=done.append)
        with job.working():
            job.encode()
            assert sum(job.reader.counts(file) is not None for file in range(6)) == 2 * (part + 1)
            job.merge()
    assert len(done) == 6
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes]) -> None:
    """kill -9 at five places of the way, each time when a few more files are there than the last time."""
    folder = tmp_path / "shards"
    script = tmp_path / "build.py"
    script.write_text(
        "from pathlib import Path\n"
        "from korbert.data.building import Builder\n"
        "from korbert.data.filters import Filters\n"
        "from korbert.data.piecework import Recipe\n"
        "if __name__ == '__main__':\n"
        f"    recipe = Recipe({tuple(map(str, recipe.sources))!r}, Path({str(recipe.tokenizer_folder)!r}), 'mecab',\n"
        f"        filters={recipe.filters!r}, piece_characters={recipe.piece_characters})\n"
        f"    object.__setattr__(recipe, 'sources', tuple(map(Path, recipe.sources)))\n"
        f"    Builder(Path({str(folder)!r}), recipe, workers=2).build()\n",
        "utf-8",
    )
    rng = random.Random(8)
    kills = 0
    for wanted in (1, 12, 30, 45, 60):
        process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(folder.rglob("*.*"))) < wanted:
            time.sleep(0.005)
        time.sleep(rng.random() / 50)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 3
    left = contents(folder)
    if "manifest.json" not in left:
        assert any(name.startswith("build/") for name in left)
        stray = folder / "build" / "scratch-part-0-of-1" / ".00000-00000.tokens.npy.x"
        stray.parent.mkdir(exist_ok=True)
        stray.touch()
    done: list[Done] = []
    Builder(folder, recipe, progress=done.append).build()
    assert len(done) < 30  # not from the beginning
    assert contents(folder) == undisturbed


class Killed(BaseException):
    """Nothing catches this but what would be gone in a kill, too."""


def test_stopped_at_every_write(
    tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before or behind some file that is written, again and again until nothing is left to do."""
    some = replace(recipe, annotator="none", piece_characters=3000)
    Builder(tmp_path / "whole", some).build()
    original = Path.replace
    rng = random.Random(10)
    stops = 0

    def stopping(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        found = original(self, target)
        if left == 1 and stops % 2:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        while not (tmp_path / "shards" / "manifest.json").exists():
            left = rng.randint(2, 14)  # a piece is six
            try:
                Builder(tmp_path / "shards", some).build()
            except Killed:
                stops += 1
    assert stops > 10
    assert Builder(tmp_path / "shards", some).build() == Manifest.open(tmp_path / "whole")
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_manifest_counts_every_document(
    tmp_path: Path, recipe: Recipe, documents: list[str], tokenizer_folder: Path
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    some = replace(recipe, annotator="none", filters=replace(FILTERS, max_characters=450))
    manifest = Builder(tmp_path / "shards", some).build()
    dropped = {7: "short", 11: "not_korean", 20: "duplicate", 41: "near_duplicate", 50: "blank", 55: "blank"}
    dropped |= {row: "long" for row, text in enumerate(documents) if len(text.replace("\n", "")) > 450}
    dropped |= {20: "long"} if len(documents[20].replace("\n", "")) > 450 else {}
    counts = Counter(dropped.values())
    assert {reason: count for reason, count in manifest.dropped.items() if count} == counts
    kept = [text.split("\n") for row, text in enumerate(documents) if row not in dropped]
    sentences = [
        len(encode(part, tokenizer, EntityMode.NONE))
        for document in kept
        for paragraph in document
        for part in split_sentences(AnnotatedText(paragraph))
    ]
    assert (manifest.read, manifest.documents, manifest.empty) == (60, len(kept), 0)
    assert manifest.read == manifest.documents + manifest.empty + sum(manifest.dropped.values())
    assert (manifest.sentences, manifest.tokens) == (len(sentences), sum(sentences))
    assert manifest.characters == sum(len(paragraph) for document in kept for paragraph in document)
    corpus = ShardedCorpus(tmp_path / "shards", tokenizer.fingerprint, verify=True)
    assert len(corpus) == len(kept)
    assert corpus.document_lengths().sum() == manifest.tokens


def test_titles_and_limits(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "titles.txt").write_text("제목 0\n제목 30\n제목 59\n없는 제목\n", "utf-8")
    some = replace(recipe, filters=Filters(titles=[str(tmp_path / "titles.txt")]), annotator="none")
    assert Builder(tmp_path / "a", some).build().dropped["title"] == 3
    manifest = Builder(tmp_path / "b", replace(some, max_documents=31), workers=2).build()
    assert (manifest.read, manifest.dropped["title"]) == (31, 2)
    for part in (1, 0):
        job = Builder(tmp_path / "c", replace(some, max_documents=31), part=part, parts=2)
        with job.working():
            job.sign()
    for part in (1, 0):
        job = Builder(tmp_path / "c", replace(some, max_documents=31), part=part, parts=2)
        with job.working():
            assert job.decide()
            job.encode()
            job.merge()
    assert contents(tmp_path / "c") == contents(tmp_path / "b")


def test_korquad_does_not_leak(tmp_path: Path, recipe: Recipe, data_root: Path) -> None:
    """Passages of the dev file, as they are and edited, among documents that have nothing to do with it."""
    dev = data_root / "korquad" / "KorQuAD_v1.0_dev.json"
    contexts = [p.context for article in read_korquad(dev).articles for p in article.paragraphs]
    rng = random.Random(9)
    leaks = rng.sample(contexts, 40)
    for number in range(20, 40):  # every tenth eojeol is gone
        leaks[number] = " ".join(w for i, w in enumerate(leaks[number].split()) if i % 10 != number % 10)
    texts = ["\n".join([*paragraphs(rng, 5), leak, *paragraphs(rng, 5)]) for leak in leaks]
    texts += ["\n".join(paragraphs(rng, 5)) for _ in range(60)]
    rng.shuffle(texts)
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    some = replace(recipe, sources=(path,), annotator="none", filters=Filters(evaluation=[str(dev)]))
    manifest = Builder(tmp_path / "shards", some).build()
    assert (manifest.dropped["evaluation"], manifest.documents) == (40, 60)
    assert manifest.recipe["filters"]["evaluation"] == [
        ["KorQuAD_v1.0_dev.json", "25ffeb51e6c51ec02c071b60a10188e10005c144110f0d876b26079d80a35bdf"]
    ]


def test_every_format_gives_the_same_shards(tmp_path: Path, recipe: Recipe, documents: list[str]) -> None:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    texts = [text for text in documents[:20] if text]
    plain = "\n\n".join(texts).encode()
    lines = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    rows = [{"id": str(n), "url": "", "title": f"{n}", "text": text} for n, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=7)
    packed = {"txt": plain, "txt.gz": gzip.compress(plain), "txt.zst": zstd.compress(plain), "jsonl": lines}
    packed |= {"jsonl.xz": lzma.compress(lines), "jsonl.bz2": bz2.compress(lines)}
    for ending, content in packed.items():
        (tmp_path / f"a.{ending}").write_bytes(content)
    found = []
    for ending in (*packed, "parquet"):
        some = replace(recipe, sources=(tmp_path / f"a.{ending}",), annotator="none")
        found.append(Builder(tmp_path / f"shards.{ending}", some).build().files)
    assert len(found[0]) > 8
    assert found == [found[0]] * 7


def test_a_dump_with_its_links(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "wiki.xml.bz2"
    path.write_bytes(bz2.compress(dump().encode()))
    filters = Filters(duplicates=True)
    some = replace(recipe, sources=(path,), annotator="links", filters=filters)
    manifest = Builder(tmp_path / "shards", some, workers=2).build()
    assert (manifest.read, manifest.documents) == (101, 101)
    corpus = ShardedCorpus(tmp_path / "shards")
    tokenizer = load_tokenizer(recipe.tokenizer_folder)
    markers = sum(
        int(np.count_nonzero(corpus.tokens(number, 0, length).ids == tokenizer.special.ent))
        for number, length in enumerate(corpus.document_lengths().tolist())
    )
    assert markers == 205  # all links, as tests/test_wikidump.py counts them
    with pytest.raises(ConfigError, match=r"0\.jsonl\.xz is no MediaWiki dump"):
        Builder(tmp_path / "no", replace(recipe, annotator="links+mecab"))


def test_a_dump_that_would_be_read_in_another_way_is_not_gone_on_with(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wiki.xml.bz2"
    path.write_bytes(bz2.compress(dump().encode()))
    some = replace(recipe, sources=(path,), annotator="none")
    Builder(tmp_path / "shards", some).build()
    Builder(tmp_path / "others", recipe).build()
    Builder(tmp_path / "shards", some).build()
    data, text = DataConfig(cache=str(tmp_path / "cache")), TokenizerConfig(kind="character", vocab_size=100)
    corpora = [CorpusConfig(files=[str(file)]) for file in (path, recipe.sources[0])]
    before = [prepare_tokenizer(text, corpus, data) for corpus in corpora]
    assert before == [prepare_tokenizer(text, corpus, data) for corpus in corpora]
    monkeypatch.setattr(wikidump, "RULES", "another way")
    with pytest.raises(ConfigError, match="was begun by a version that reads or encodes some texts in another way"):
        Builder(tmp_path / "shards", some).build()
    Builder(tmp_path / "others", recipe).build()  # no dump
    after = [prepare_tokenizer(text, corpus, data) for corpus in corpora]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


# ---- faults ----


def test_a_source_that_is_cut_off(tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes]) -> None:
    """It is named, what was finished is kept, and when it is brought again, the build goes on."""
    files = []
    for path in recipe.sources:
        files.append(Path(shutil.copy(path, tmp_path)))
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:-60])
    folder = tmp_path / "shards"
    broken = replace(recipe, sources=tuple(files))
    with pytest.raises(DataError, match=r"2\.jsonl\.xz: after line \d+: cannot be read on"):
        Builder(folder, broken, workers=2).build()
    kept = [path.name for path in (folder / "build" / "signatures").glob("*.npz")]
    assert any(name.startswith("00000") for name in kept)
    files[2].write_bytes(whole)
    done: list[Done] = []
    Builder(folder, broken, progress=done.append).build()
    assert not {piece.name for piece in done if piece.stage == "sign"} & {
        name.removesuffix(".npz") for name in kept if not name.startswith("00002")
    }
    assert contents(folder) == undisturbed


def test_a_corpus_of_which_nothing_is_left_is_an_error(tmp_path: Path, recipe: Recipe) -> None:
    """It counts what each filter left out, is not finished, and says so again."""
    folder = tmp_path / "shards"
    some = replace(recipe, annotator="none", filters=Filters(min_characters=10**6, min_korean=0.5))
    for parts in (1, 1, 2, 2):
        job = Builder(folder / str(parts), some, parts=parts)
        other = Builder(folder / str(parts), some, part=parts - 1, parts=parts)
        for builder in (other, job):
            with builder.working():
                builder.sign()
        for builder in (other, job):
            with builder.working():
                assert builder.decide()
                builder.encode()
        with pytest.raises(
            DataError, match=r"documents: none of 60 is left: blank 2, short \(filters\.min_char.*\) 58;"
        ):
            job.merge()
        assert not (folder / str(parts) / "manifest.json").exists()
    lines = [json.dumps({"text": text}) for text in ("", " \n", "세종은 왕이다.")]
    (tmp_path / "blank.jsonl").write_text("\n".join(lines), "utf-8")
    blank = replace(some, sources=(tmp_path / "blank.jsonl",), filters=Filters(), max_documents=2)
    with pytest.raises(DataError, match="none of 2 is left: without a token 2; wanted one or more"):
        Builder(tmp_path / "blank", blank).build()


def test_a_corpus_of_nothing_that_was_finished_before(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = replace(recipe, annotator="none", filters=Filters(max_characters=1))
    with monkeypatch.context() as patch:
        patch.setattr(building, "check_some", lambda *_: None)
        assert Builder(tmp_path / "shards", some).build().documents == 0
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        check = compose_config("build_corpus", ["stage=check", f"output={tmp_path / 'shards'}"])
    with pytest.raises(DataError, match=r"long \(filters\.max_characters\) 58"):
        build_corpus(check)


def test_every_reason_is_decided_by_a_setting() -> None:
    keys = {reason.key for reason in Reason}
    assert keys <= {"", *(part.name for part in fields(Filters))}
    assert len(keys) == len(Reason) - 1  # kept, blank


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["corpus.shards=made"], "^corpus.shards=made: 3 documents are too few: 2 are held out .* needs two more$"),
        (["corpus.files=[a.txt]"], "^corpus.files: 3 documents are too few: .*; in a .txt corpus, documents are"),
    ],
)
def test_too_few_documents_to_train_on(given: list[str], message: str) -> None:
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        config = compose_config("pretrain", given)
    with pytest.raises(ConfigError, match=message):
        split_documents(config, [0, 1, 2])  # type: ignore[arg-type]


def test_damaged_shards_are_named(tmp_path: Path, recipe: Recipe) -> None:
    folder = tmp_path / "shards"
    Builder(folder, recipe).build()
    names = Manifest.open(folder).names
    path = folder / f"{names[1]}.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    ShardedCorpus(folder)  # the size is right
    with pytest.raises(DataError, match=rf"{names[1]}\.tokens\.npy: is not what was written"):
        ShardedCorpus(folder, verify=True)
    path.write_bytes(content[:-5])
    (folder / f"{names[2]}.documents.npy").unlink()
    with pytest.raises(
        DataError, match=rf"2 of \d+ files: damaged\n.*{names[1]}.tokens.npy: wanted \d+ bytes"
    ) as error:
        ShardedCorpus(folder)
    assert f"{names[2]}.documents.npy: missing" in str(error.value)


def test_a_piece_that_is_not_whole_is_made_again(tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "shards"
    builder = Builder(folder, recipe)
    with builder.working():
        builder.sign()
        builder.decide()
        builder.encode()
    next(folder.glob("*.tokens.npy")).write_bytes(b"half")
    builder.build()
    assert contents(folder) == undisturbed


def test_two_builds_at_once_and_another_recipe(tmp_path: Path, recipe: Recipe) -> None:
    folder = tmp_path / "shards"
    first, second = Builder(folder, recipe), Builder(folder, recipe)
    with first.working():
        with pytest.raises(ConfigError, match=r"shards: another process is building part 0 of 1 in this folder"):
            second.build()
        other = Builder(folder, replace(recipe, filters=Filters(), cut=False), part=1, parts=2)
        with (
            pytest.raises(ConfigError, match="was begun with another cut, filters; choose another folder"),
            other.working(),
        ):
            pass
        first.sign()
    second.build()
    assert second.build() == first.build()  # nothing is done twice
    with pytest.raises(ConfigError, match="was begun with another piece_characters"):
        Builder(folder, replace(recipe, piece_characters=99)).build()
    with pytest.raises(ConfigError, match="part=3: wanted a number from 0 to parts-1"):
        Builder(folder, recipe, part=3, parts=3)


def test_a_full_disk(
    tmp_path: Path, recipe: Recipe, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    original = os.fsync
    writes = 0

    def full(handle: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 150:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"\.(npy|json): file: cannot be written \(No space left on device\); what"):
            Builder(folder, recipe).build()
    assert list((folder / "build" / "pieces").glob("*.json"))
    assert not list((folder / "build" / "scratch-part-0-of-1").iterdir())
    done: list[Done] = []
    Builder(folder, recipe, progress=done.append).build()
    assert {piece.stage for piece in done} == {"encode"}
    assert contents(folder) == undisturbed


def test_shards_of_a_run_go_on_too(
    tmp_path: Path, recipe: Recipe, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What training builds for itself is in its folder when it is complete, and beside it before that."""
    folder = tmp_path / "shards"
    options = {"piece_characters": 1500}
    original = Path.replace
    count = 0

    def stopping(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == 30:
            raise Killed
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        with pytest.raises(Killed):
            build_shards(folder, recipe.sources, tokenizer_folder, **options)
    assert not folder.exists()
    part = tmp_path / "shards.part"
    done = [path.stem for path in (part / "build" / "pieces").glob("*.json")]
    kept = {path.name: path.stat().st_mtime_ns for name in done for path in part.glob(f"{name}.*.npy")}
    assert len(kept) > 8
    build_shards(folder, recipe.sources, tokenizer_folder, **options)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert not part.exists()
    part.mkdir()  # of something else
    (part / "00000.tokens.npy").touch()
    build_shards(folder, recipe.sources, tokenizer_folder, units="eojeol", **options)
    assert sorted(path.name for path in folder.glob("*.npy"))[0].startswith("00000-00000")
    assert ShardedCorpus(folder).manifest.units == "eojeol"


def test_older_shards_are_read(tmp_path: Path, recipe: Recipe) -> None:
    """Format 1: numbered shards, a manifest without names and checksums."""
    folder = tmp_path / "shards"
    manifest = Builder(folder, replace(recipe, filters=Filters())).build()
    lengths = ShardedCorpus(folder).document_lengths().tolist()
    raw = read_json(folder / "manifest.json")
    for key in ("read", "dropped", "names", "files", "recipe", "checksum"):
        del raw[key]
    (folder / "manifest.json").write_text(json.dumps({**raw, "format": 1}), "utf-8")
    for number, name in enumerate(manifest.names):
        for path in folder.glob(f"{name}.*"):
            path.rename(folder / path.name.replace(name, f"{number:05d}"))
    assert ShardedCorpus(folder, manifest.tokenizer, verify=True).document_lengths().tolist() == lengths


# ---- the door ----


@pytest.mark.slow
def test_the_door_builds_by_parts_checks_and_is_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "corpus"
    tokenizer = ("tokenizer=syllable", "tokenizer.vocab_size=500", f"data.cache={tmp_path / 'cache'}")
    command = [
        "build_corpus", "-m", *tokenizer, "piece_characters=3000", "runtime.workers=1",
        f"output={folder}", "stage=sign,encode", "part=0,1", "parts=2", f"run_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    run_door(*command)
    records = [read_json(path) for path in (tmp_path / "runs").glob("*/record.json")]
    assert sorted(record["results"]["complete"] for record in records) == [False, False, False, True]
    (results,) = (record["results"] for record in records if record["results"]["complete"])
    assert results["read"] == results["documents"] + results["empty"] + sum(results["dropped"].values()) == 32
    assert results["memory"][0]["main"] > 0

    monkeypatch.chdir(repository)
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"), caplog.at_level("INFO"):
        assert build_corpus(compose_config("build_corpus", ["stage=check", f"output={folder}"])) == {
            "files": results["shards"] * 4
        }
        again = compose_config("build_corpus", [*tokenizer, "piece_characters=3000", f"output={folder}"])
        again.run_dir = str(tmp_path / "again")
        assert build_corpus(again)["results"]["documents"] == results["documents"]
        assert "is complete already" in caplog.text
        with pytest.raises(ConfigError, match="stage: 'sing' is unknown, wanted all, sign"):
            build_corpus(compose_config("build_corpus", ["stage=sing", f"output={folder}"]))
        late = compose_config("build_corpus", [*tokenizer, f"output={tmp_path / 'late'}", "stage=merge"])
        late.run_dir = str(tmp_path / "late_run")
        with pytest.raises(DataError, match="some files have not been read to their end; run those parts' commands"):
            build_corpus(late)
        train = compose_config("pretrain", [*tokenizer, f"corpus.shards={folder}", f"run_dir={tmp_path / 'train'}"])
    tokenizer_folder = prepare_tokenizer(train.tokenizer, train.corpus, train.data)
    shards = prepare_shards(tokenizer_folder, train.entities, train.corpus, train.data, workers=1)
    assert (len(shards), shards.folder) == (results["documents"], folder)
