"""Models of korbert's go out: the same numbers in transformers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign import AWARE, MODERN, PLAIN, a_run, as_its_readme_says, inputs, saved, theirs
from torch import Tensor

from korbert.config import ExportConfig, FinetuneConfig, ModelSize
from korbert.data.batching import Batch, SpanBatch, encoder_inputs
from korbert.data.pretraining import single_segment
from korbert.data.shards import stretch
from korbert.encoding import EntityInput, EntityMode, encode_sequence
from korbert.errors import ConfigError
from korbert.model import Padded
from korbert.tasks.exporting import export_model
from korbert.tasks.importing import import_model, read_weights
from korbert.tasks.starting import model_sizes
from korbert.text import AnnotatedText, Span
from korbert.tokenizers import CharacterTokenizer, SentencePieceTokenizer, Tokenizer
from korbert.tokenizers.conversion import as_fast_tokenizer
from korbert.training.bundle import load_bundle

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pieces(sample: Path) -> dict[str, Tokenizer]:
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    return {
        "unigram": SentencePieceTokenizer.train(lines, 1200),
        "bpe": SentencePieceTokenizer.train(lines, 1200, model_type="bpe"),
        "characters": CharacterTokenizer.train(lines, 900),
    }


@pytest.mark.parametrize("kind", ["span", "pretraining", "tagger"])
@pytest.mark.parametrize(
    ("entities", "options"),
    [(PLAIN, {}), (AWARE, {}), (PLAIN, MODERN), (AWARE, MODERN), (AWARE, {"span_query": True})],
    ids=["bert", "entities", "modern", "modern-entities", "query"],
)  # fmt: skip
def test_models_go_out(
    kind: str, entities: EntityInput, options: dict[str, Any], pieces: dict[str, Tokenizer], tmp_path: Path
) -> None:
    ours, _sizes = a_run(tmp_path / "run", pieces["unigram"], kind, entities, **options)
    target = export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out")))
    described = json.loads((target / "config.json").read_text())
    is_plain = entities is PLAIN and not options
    assert described["model_type"] == ("bert" if is_plain else "korbert")
    assert (target / "modeling_korbert.py").exists() == (not is_plain)
    auto = {"span": "QuestionAnswering", "pretraining": "MaskedLM", "tagger": "TokenClassification"}[kind]
    if is_plain and kind == "pretraining":
        auto = "PreTraining"
    loader = getattr(transformers, f"AutoModelFor{auto}")
    theirs, report = loader.from_pretrained(target, trust_remote_code=not is_plain, output_loading_info=True)
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    theirs.eval()
    given, batch = inputs(len(pieces["unigram"]))
    if entities is AWARE:
        ids = torch.randint(0, entities.entity_types + 1, batch.token_ids.shape)
        given["entity_ids"], batch = ids, dataclasses.replace(batch, entity_ids=ids)
    attended = batch.layout.attention_mask  # type: ignore[union-attr]
    places = torch.nonzero(attended.flatten()).flatten()
    with torch.no_grad():
        expected = theirs(**given)
        if kind == "span":
            allowed = torch.ones_like(batch.token_ids, dtype=torch.bool)
            start, end = ours.logits(
                SpanBatch(**_fields(batch), start_positions=ids0(), end_positions=ids0(), allowed=allowed)
            )
            assert (start - expected.start_logits)[attended].abs().max() < 1e-5
            assert (end - expected.end_logits)[attended].abs().max() < 1e-5
        elif kind == "pretraining":
            logits = ours.mlm_logits(ours.encode(batch), places)
            reference = expected.prediction_logits if is_plain else expected.logits
            assert (logits - reference.flatten(0, 1)[places]).abs().max() < 1e-5
            if is_plain:
                ours_nsp = ours.nsp(ours.encode(batch)[:, 0])
                assert (ours_nsp.flip(1) - expected.seq_relationship_logits).abs().max() < 1e-5
        else:
            assert (ours.logits(batch) - expected.logits)[attended].abs().max() < 1e-5
            assert theirs.config.id2label == {0: "O", 1: "B-X", 2: "I-X"}
    if is_plain and kind != "tagger":  # and in again
        again = load_bundle(import_model(str(target), tmp_path / "cache")).model
        with torch.no_grad():
            assert (again.encode(batch) - ours.encode(batch))[attended].abs().max() < 1e-5  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("entities", "options"), [(PLAIN, {}), (AWARE, {}), (PLAIN, MODERN)], ids=["bert", "entities", "modern"]
)
def test_of_a_detector_of_replaced_tokens_the_encoder_goes_out(
    entities: EntityInput,
    options: dict[str, Any],
    pieces: dict[str, Tokenizer],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its masked-LM head reads the generator; on the encoder's hidden states it would say nothing."""
    ours, _ = a_run(tmp_path / "run", pieces["unigram"], "detection", entities, **options)
    target = export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out")))
    is_plain = entities is PLAIN and not options
    described = json.loads((target / "config.json").read_text())
    assert described["architectures"] == ["BertModel" if is_plain else "KorbertModel"]
    theirs, _ = as_its_readme_says(target)
    assert theirs.state_dict().keys() <= {
        name.removeprefix("bert.") for name in read_weights(target / "model.safetensors")
    }
    given, batch = inputs(len(pieces["unigram"]))
    attended = batch.layout.attention_mask  # type: ignore[union-attr]
    with torch.no_grad():
        hidden = ours.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout)
        assert (hidden - theirs(**given).last_hidden_state)[attended].abs().max() < 1e-5
    for words in (caplog.text, (target / "README.md").read_text("utf-8")):
        assert "The encoder alone: it has learned to tell replaced tokens" in words


QUESTION, CONTEXT = "세종의 이름은 무엇인가?", "세종은 조선의 왕이다. 이름은 도이다."


@pytest.mark.parametrize("head", ["QuestionAnswering", "MaskedLM"])
@pytest.mark.parametrize("family", ["roberta", "roberta-pad0", "bert"])
def test_a_model_that_came_in_goes_out(family: str, head: str, vocabulary: list[str], tmp_path: Path) -> None:
    """The same logits from the original and from the export, which is called with all that its tokenizer gives."""
    model = theirs(family, head, len(vocabulary))
    words, pad_id = list(vocabulary), model.config.pad_token_id
    words[0], words[pad_id] = words[pad_id], words[0]  # RoBERTa counts no positions for its padding
    source = saved(model, family, words, tmp_path / "hf")
    run = import_model(str(source), tmp_path / "cache")
    exported, tokenizer = as_its_readme_says(export_model(ExportConfig(str(run), str(tmp_path / "out"))))
    given = tokenizer([QUESTION, "왕"], [CONTEXT, CONTEXT], return_tensors="pt", padding=True)
    assert set(given["token_type_ids"].flatten().tolist()) == {0, 1}
    attended = given["attention_mask"].bool()
    with torch.no_grad():
        made = exported(**given)
        if "roberta" in family:
            given["token_type_ids"].zero_()  # it has one
        expected = model(**given)
    for name in ("start_logits", "end_logits") if head == "QuestionAnswering" else ("logits",):
        one, other = made[name][attended], expected[name][attended]
        assert (one[..., : len(vocabulary)] - other).abs().max() < 1e-5
        assert other.std() > 0.1


@pytest.mark.parametrize(
    ("entities", "options"), [(PLAIN, {}), (AWARE, {}), (PLAIN, MODERN)], ids=["bert", "entities", "modern"]
)
def test_one_type_of_segment_goes_out(
    entities: EntityInput, options: dict[str, Any], pieces: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """Its tokenizer says 1 for the second text all the same, and the model has to read that."""
    ours, _ = a_run(tmp_path / "run", pieces["unigram"], "span", entities, segment_types=1, **options)
    exported, tokenizer = as_its_readme_says(
        export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out")))
    )  # fmt: skip
    given = tokenizer(QUESTION, CONTEXT, return_tensors="pt")
    ids, types = given["input_ids"], given["token_type_ids"]
    assert types.any()
    every = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        made = exported(**given)
        start, end = ours.span(ours.encoder(ids, types, torch.zeros_like(ids), Padded(every)), Padded(every), every)
    assert (made.start_logits - start).abs().max() < 1e-5
    assert (made.end_logits - end).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{}, MODERN], ids=["bert", "modern"])
def test_markers_that_share_positions_go_out(
    options: dict[str, Any], pieces: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """Whoever gives ids alone gets the positions that the model was trained with."""
    tokenizer, given = pieces["unigram"], EntityInput(EntityMode.BOTH, shared_positions=True)
    ours, _ = a_run(tmp_path / "run", tokenizer, "span", given, **options)
    exported, _ = as_its_readme_says(export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out"))))
    spans = ((0, 2, "세종은 조선의 왕이다."), (4, 6, "세종은 조선의 왕이고, 이름은 도이다."))
    examples = []
    for start, end, text in spans:
        encoding = encode_sequence(AnnotatedText(text, (Span(start, end, "X"),)), tokenizer, given)
        examples.append(single_segment(stretch(encoding), tokenizer.special))
    sharing = [encoder_inputs(examples, tokenizer.special.pad, sharing=s)[0] for s in (tokenizer.special, None)]
    batch, unshared = (Batch(**inputs) for inputs in sharing)
    attended = batch.layout.attention_mask  # type: ignore[union-attr]
    assert (batch.token_ids == tokenizer.special.ent).sum() == len(spans)
    with torch.no_grad():
        made = exported(batch.token_ids, attention_mask=attended, entity_ids=batch.entity_ids)
        for one, is_same in ((batch, True), (unshared, False)):
            start, end = ours.span(ours.encode(one), one.layout, attended)
            far = torch.maximum((made.start_logits - start).abs(), (made.end_logits - end).abs())[attended].max()
            assert (far < 1e-5) == is_same


def test_of_a_pretraining_that_looked_for_places_the_masked_lm_goes_out(
    pieces: dict[str, Tokenizer], tmp_path: Path
) -> None:
    a_run(tmp_path / "run", pieces["unigram"], "pretraining", PLAIN, objectives=("mlm", "selection"))
    target = export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out")))
    _, report = transformers.AutoModelForMaskedLM.from_pretrained(target, output_loading_info=True)
    assert not report["unexpected_keys"], report
    assert load_bundle(import_model(str(target), tmp_path / "cache")).description.kind == "pretraining"


def ids0() -> Tensor:
    return torch.zeros(3, dtype=torch.int64)


def _fields(batch: Batch) -> dict[str, Any]:
    return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}


@pytest.mark.parametrize("name", ["unigram", "bpe", "characters"])
def test_tokenizers_go_out(name: str, pieces: dict[str, Tokenizer], tmp_path: Path, sample: Path) -> None:
    """The same ids on plain text; where the library cannot do it, korbert's files and a word on it."""
    tokenizer = pieces[name]
    a_run(tmp_path / "run", tokenizer, "span", PLAIN)
    target = export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out")))
    assert (target / "korbert_tokenizer" / "tokenizer.json").is_file()
    if name == "characters":
        assert "`korbert_tokenizer/` alone" in (target / "README.md").read_text("utf-8")
        assert not (target / "tokenizer.json").exists()
        assert "AutoTokenizer" not in (target / "README.md").read_text("utf-8")
        return
    fast = transformers.AutoTokenizer.from_pretrained(target)
    lines = [line for line in (sample / "corpus.txt").read_text("utf-8").splitlines() if line]
    same = [fast(line, add_special_tokens=False)["input_ids"] == tokenizer.encode_ids(line).tolist() for line in lines]
    assert np.mean(same) > (0.99 if name == "unigram" else 0.9)  # ties of BPE merges are broken in another order
    assert fast.model_max_length == load_bundle(tmp_path / "run").description.model.max_positions
    pair = fast("세종은", "왕이다.")
    special = tokenizer.special
    assert [pair["input_ids"].count(special.cls), pair["input_ids"].count(special.sep)] == [1, 2]
    assert pair["token_type_ids"] == [0] * (pair["input_ids"].index(special.sep) + 1) + [1] * (
        len(pair["input_ids"]) - pair["input_ids"].index(special.sep) - 1
    )
    assert fast.mask_token_id == special.mask


@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_unknown_characters_go_out(model_type: str, byte_fallback: bool, sample: Path, tmp_path: Path) -> None:
    """As their bytes where the tokenizer has them, else a run of them as one token; what reads as a byte is letters."""
    lines = [line for line in (sample / "corpus.txt").read_text("utf-8").splitlines() if line]
    options: dict[str, Any] = {"model_type": model_type, "byte_fallback": byte_fallback, "character_coverage": 0.98}
    tokenizer = SentencePieceTokenizer.train(lines, 1200, **options)
    as_fast_tokenizer(tokenizer).save_pretrained(tmp_path)
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["龘", "세종龘龘은 龘", "웹 龘 세종", "😀은 😀😀", "<0xEA>은 a<0x41> <0xZZ>", "é<", "세종은 왕이다."]
    for text in texts:
        ids = fast(text, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer.encode_ids(text).tolist(), text
        assert (tokenizer.special.unk in ids) == (not byte_fallback and text != texts[-1]), text
        if byte_fallback:
            assert fast.decode(ids) == text
    same = [fast(line, add_special_tokens=False)["input_ids"] == tokenizer.encode_ids(line).tolist() for line in lines]
    assert np.mean(same) > (0.99 if model_type == "unigram" else 0.9)  # as above


def test_exports_leave_what_is_there_alone(pieces: dict[str, Tokenizer], tmp_path: Path) -> None:
    a_run(tmp_path / "run", pieces["unigram"], "span", PLAIN, letters=6)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="there is something already"):
        export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "out")))
    target = export_model(ExportConfig(str(tmp_path / "run"), str(tmp_path / "other")))
    assert "letter head" in (target / "README.md").read_text("utf-8")


@pytest.mark.parametrize("dropout", [None, 0.4])
def test_dropout_is_taken_with_and_without_a_pretrained_model(
    dropout: float | None, pieces: dict[str, Tokenizer], tmp_path: Path
) -> None:
    a_run(tmp_path / "run", pieces["unigram"], "pretraining", PLAIN, hidden_dropout=0.2)
    sizes = ModelSize(48, 3, 4, 96, hidden_dropout=0.2)
    fresh = FinetuneConfig(run_dir="x", model=sizes, tokenizer_path="y", dropout=dropout)
    tuned = FinetuneConfig(run_dir="x", init=str(tmp_path / "run"), dropout=dropout)
    for config, pretrained in ((fresh, None), (tuned, load_bundle(tmp_path / "run"))):
        assert model_sizes(config, pretrained, 1200).hidden_dropout == (0.2 if dropout is None else dropout)
