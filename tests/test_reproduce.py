"""Recipes of published models: all compose, say what they publish, and run over seeds, going on where they stopped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.errors import ConfigError, KorbertError
from korbert.files import read_json, write_json_atomically
from korbert.tasks import reproduce as door
from korbert.tasks.reproduce import reproduce
from korbert.tokenizers import load_tokenizer, open_published

transformers = pytest.importorskip("transformers")
CONF = Path(__file__).resolve().parents[1] / "conf"
RECIPES = sorted(path.stem for path in (CONF / "experiment").glob("korquad_*.yaml") if path.stem != "korquad_published")


@pytest.fixture(autouse=True)
def conf(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(repository)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_say_what_they_are(recipe: str) -> None:
    """The comment has the score that reproduce.py shows, with its source; the values are as everybody's windows."""
    text = (CONF / "experiment" / f"{recipe}.yaml").read_text("utf-8")
    published = compose_config("reproduce", ["run_dir=x"]).published[recipe]
    said = re.search(r"# Published: (?:EM ([\d.]+), F1 ([\d.]+) on KorQuAD 1\.0 dev|none)\.\n# Source: .+", text)
    assert said is not None
    assert [float(group) for group in said.groups() if group] == list(published.values())
    config = compose_config("finetune_korquad", [f"experiment={recipe}", "run_dir=x"])
    assert config.init.startswith("hf:")
    assert (config.task.window.max_length, config.task.window.doc_stride) == (512, 128)
    assert config.entities.mode == "none"
    assert config.train.optimizer.warmup == 0
    assert config.task.fold is None


def test_every_recipe_has_an_entry() -> None:
    config = compose_config("reproduce", ["run_dir=x"])
    assert sorted(config.published) == RECIPES
    assert set(config.recipes) <= set(RECIPES)


@pytest.fixture(scope="module")
def small_model(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import BertWordPieceTokenizer

    folder = tmp_path_factory.mktemp("hf")
    backend = BertWordPieceTokenizer(lowercase=False)
    backend.train_from_iterator((sample / "corpus.txt").read_text("utf-8").splitlines(), 1200, show_progress=False)
    backend.save_model(str(folder))
    config = transformers.BertConfig(
        vocab_size=1200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def overrides(model: Path, folder: Path, *more: str) -> Any:
    chosen = [
        f"init=hf:{model}", "task.test=data/sample/KorQuAD_sample_dev.json",
        "task.train=[data/sample/KorQuAD_sample_train.json]", "train.steps=2",
    ]  # fmt: skip
    listed = "[" + ",".join(f"'{one}'" for one in chosen) + "]"
    return compose_config(
        "reproduce",
        [f"run_dir={folder}", f"overrides={listed}", "runtime.threads=1", "runtime.workers=1", "runtime.device=cpu",
         f"data.cache={folder}/cache", "recipes=[korquad_koelectra_small_v3,korquad_klue_bert_base]", *more],
    )  # fmt: skip


@pytest.mark.slow
def test_published_beside_obtained(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = reproduce(overrides(small_model, tmp_path, "seeds=[1]"))
    assert [row["seeds"] for row in rows] == [1, 1]
    text = (tmp_path / "reproduce.md").read_text("utf-8")
    assert "82.11 / 91.13" in text
    assert "none known" in text
    assert "(one seed)" in text
    assert "KorQuAD_sample_dev.json" in text
    made = []
    real = door.finetune_korquad
    monkeypatch.setattr(door, "finetune_korquad", lambda config: made.append(config.seed) or real(config))
    rows = reproduce(overrides(small_model, tmp_path, "seeds=[1,2]"))
    assert made == [1, 1, 2, 2]  # what is finished comes first, and is read
    starts = [path.read_text("utf-8").count('"date"') for path in sorted(tmp_path.glob("*-seed*/sessions.jsonl"))]
    assert starts == [1, 1, 1, 1]  # seed 1 was finished
    folder = tmp_path / "korquad_klue_bert_base-seed2"
    record = read_json(folder / "record.json")
    assert rows[1]["exact_match"][1] == record["results"]["exact_match"]
    assert " ± " in (tmp_path / "reproduce.md").read_text("utf-8")
    write_json_atomically(folder / "config.json", record["config"] | {"seed": 7})
    rows = reproduce(overrides(small_model, tmp_path, "seeds=[1,2]"))
    assert rows[1]["seeds"] == 1  # a run of something else is not counted
    assert "seed 2: run_dir=" in (tmp_path / "reproduce.md").read_text("utf-8")


def test_failures_are_named_and_the_others_go_on(small_model: Path, tmp_path: Path) -> None:
    bad = overrides(small_model, tmp_path, "seeds=[1]")
    bad.overrides[0] = "init=hf:/nowhere at all"
    with pytest.raises(KorbertError, match=r"small_v3, seed 1, korquad_klue_bert_base, seed 1: [^:]*nowhere[^:]*$"):
        reproduce(bad)
    assert "nowhere" in json.loads((tmp_path / "reproduce.json").read_text("utf-8"))["failures"].popitem()[1]
    for change, message in (
        ("recipes=[korquad_gpt]", "recipes: 'korquad_gpt' is unknown, wanted korquad_mbert"),
        ("recipes=[mbert]", "is korquad_mbert meant"),
        ("recipes=[]", "recipes: wanted some of korquad_mbert.*got"),
        ("seeds=[]", "seeds: wanted one or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            reproduce(overrides(small_model, tmp_path, "seeds=[1]", change))


def test_kobert_s_tokenizer_has_pieces_of_one_file_and_ids_of_another(sample: Path, tmp_path: Path) -> None:
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(tmp_path / "tokenizer_78b3"), vocab_size=1000, minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer_78b3.model"))
    pieces = [processor.id_to_piece(i) for i in range(3, 1000)]
    order = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *np.random.default_rng(0).permutation(pieces).tolist()]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in order), "utf-8")
    tokenizer = open_published(tmp_path)
    assert tokenizer.special.pad == 1
    for line in lines[:20]:
        found = tokenizer.encode(line)
        assert [order[i] for i in found.ids if i] == [
            p for p in processor.encode(line, out_type=str) if p in set(order)
        ]
        assert "".join(line[a:b] for a, b in zip(found.starts, found.ends, strict=True)) == "".join(line.split())
        cut = tokenizer.encode(line, range(0, len(line), 3))
        assert not any(a // 3 < (b - 1) // 3 for a, b in zip(cut.starts, cut.ends, strict=True) if b > a)
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode_ids(lines[0]).tolist() == tokenizer.encode_ids(lines[0]).tolist()
    other = order[:5] + order[:4:-1]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in other), "utf-8")
    assert open_published(tmp_path).fingerprint != tokenizer.fingerprint
