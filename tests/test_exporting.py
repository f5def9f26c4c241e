"""Models of korbert's go out: the same numbers in transformers."""

from __future__ import annotations

import dataclasses
import inspect
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
from korbert.encoding import EntityInput, EntityMode, encode_sequence, shared_positions
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
    sizes = (theirs.config.max_position_embeddings, theirs.config.type_vocab_size, theirs.config.hidden_dropout_prob)
    assert sizes == (ours.config.max_positions, ours.config.segment_types, ours.config.hidden_dropout)
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


BOTH = EntityInput(EntityMode.BOTH)
KINDS = ["encoder", "span", "pretraining", "tagger"]


def exported(folder: Path, tokenizer: Tokenizer, kind: str, entities: EntityInput, **options: Any) -> tuple[Any, Any]:
    """A run's model, and what its export is in transformers."""
    objectives = ("mlm",) if kind == "pretraining" else ()
    ours, _ = a_run(folder / "run", tokenizer, kind, entities, objectives, **options)
    out, _ = as_its_readme_says(export_model(ExportConfig(str(folder / "run"), str(folder / "out"))))
    return ours, out


def labels_of(kind: str, given: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Of three sequences, some of which do not count: a place behind the last token is none."""
    if kind == "span":
        return {"start_positions": torch.tensor([3, 99, 0]), "end_positions": torch.tensor([[5], [7], [2]])}
    labels = torch.randint(0, 3 if kind == "tagger" else rows, given["input_ids"].shape)
    return {} if kind == "encoder" else {"labels": labels.where(given["attention_mask"].bool(), torch.tensor(-100))}


@pytest.mark.parametrize("kind", KINDS)
def test_exports_are_called_as_bert_is(kind: str, pieces: dict[str, Tokenizer], tmp_path: Path) -> None:
    """Two runs with the same weights, of which one goes out as BERT: the same arguments, losses, hidden states."""
    rows = len(pieces["unigram"])
    _, bert = exported(tmp_path / "plain", pieces["unigram"], kind, PLAIN)
    _, ours = exported(tmp_path / "aware", pieces["unigram"], kind, BOTH)
    assert (type(bert).__name__[:4], type(ours).__name__[:7]) == ("Bert", "Korbert")
    given, _ = inputs(rows)
    places = torch.arange(37).flip(0).expand(3, -1)
    labels = labels_of(kind, given, rows)
    calls: list[tuple[tuple[Tensor, ...], dict[str, Any]]] = [
        ((given["input_ids"], given["attention_mask"], given["token_type_ids"], places), {}),
        ((), {**given, **labels}),
        ((), {**given, **labels, "output_hidden_states": True}),
        ((), {**given, **labels, "output_hidden_states": True, "return_dict": False}),
        ((), {**given, "return_dict": False}),
    ]
    for number, (arguments, more) in enumerate(calls):
        with torch.no_grad():
            wanted, made = (model(*arguments, **more) for model in (bert, ours))
        assert isinstance(made, tuple) == (number > 2)
        if number <= 2:
            assert list(made.keys()) == list(wanted.keys())
            assert ("loss" in made) == (kind != "encoder" and number > 0)
            made, wanted = made.to_tuple(), wanted.to_tuple()
        for one, other in zip(flat(made), flat(wanted), strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() < 1e-5
    assert len(flat(made)) == len(made)  # nothing was asked for in the last call
    bert.config.output_hidden_states = ours.config.output_hidden_states = True
    bert.config.return_dict = ours.config.return_dict = False
    with torch.no_grad():
        wanted, made = bert(**given), ours(**given)
    assert len(flat(made)) == len(flat(wanted)) > len(made)


def flat(parts: tuple[Any, ...]) -> list[Tensor]:
    """In their order; some versions have a None for the pooler that BERT is loaded without."""
    parts = tuple(part for part in parts if part is not None)
    return [tensor for part in parts for tensor in (part if isinstance(part, tuple) else (part,))]


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_trainer_leaves_is_enough(kind: str, pieces: dict[str, Tokenizer], tmp_path: Path) -> None:
    """Of a data set's columns it drops those that `forward` does not name; logits and losses are korbert's still."""
    ours, theirs = exported(tmp_path, pieces["unigram"], kind, AWARE, **MODERN)
    given, batch = inputs(len(pieces["unigram"]))
    ids = torch.randint(0, AWARE.entity_types + 1, batch.token_ids.shape)
    batch = dataclasses.replace(batch, entity_ids=ids)
    labels = labels_of(kind, given, len(pieces["unigram"]))
    columns = {**given, "entity_ids": ids, **labels, "question": None}
    assert set(transformers.utils.find_labels(type(theirs))) == labels.keys()
    named = inspect.signature(theirs.forward).parameters  # what Trainer._set_signature_columns_if_needed looks at
    kept = {name: value for name, value in columns.items() if name in named}
    assert columns.keys() - kept.keys() == {"question"}
    began: list[Tensor] = []
    for part in (ours.encoder.embeddings, *ours.encoder.layers[:-1]):
        part.register_forward_hook(lambda *parts: began.append(parts[-1]))
    attended = batch.layout.attention_mask  # type: ignore[union-attr]
    with torch.no_grad():
        made = theirs(**kept, output_hidden_states=True)
        hidden = ours.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout)
        assert len(made.hidden_states) == len(began) + 1
        for state, other in zip(made.hidden_states, (*began, hidden), strict=True):
            assert (state - other)[attended].abs().max() < 1e-5
        if kind == "encoder":
            assert made.last_hidden_state is made.hidden_states[-1]
            return
        cross_entropy = torch.nn.CrossEntropyLoss()
        if kind == "span":  # the second start is behind the last token
            start, end = ours.span(hidden, Padded(torch.ones_like(attended)), torch.ones_like(attended))
            one = cross_entropy(start[[0, 2]], labels["start_positions"][[0, 2]])
            loss = (one + cross_entropy(end, labels["end_positions"][:, 0])) / 2
            assert (made.end_logits - end)[attended].abs().max() < 1e-5
        else:
            places = torch.nonzero(attended.flatten()).flatten()
            every = (
                ours.mlm_logits(hidden, places) if kind == "pretraining" else ours.logits(batch).flatten(0, 1)[places]
            )
            loss = cross_entropy(every, labels["labels"].flatten()[places])
            assert (made.logits.flatten(0, 1)[places] - every).abs().max() < 1e-5
    assert loss > 0.1
    assert abs(made.loss - loss) < 1e-5


@pytest.mark.parametrize("options", [{}, MODERN], ids=["learned", "rotary"])
def test_what_an_export_cannot_give_is_refused(
    options: dict[str, Any], pieces: dict[str, Tokenizer], tmp_path: Path
) -> None:
    ours, theirs = exported(tmp_path, pieces["unigram"], "span", BOTH, **options)
    ids = torch.randint(7, 1000, (2, 64))
    assert theirs(ids).start_logits.shape == (2, 64)
    for name in ("entitiy_ids", "inputs_embeds", "labels"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            theirs(ids, **{name: torch.ones_like(ids)})
    with pytest.raises(ValueError, match="output_attentions: not supported"):
        theirs(ids, output_attentions=True)
    for name in ("start_positions", "end_positions"):
        with pytest.raises(ValueError, match="start_positions, end_positions: wanted both or neither"):
            theirs(ids, **{name: torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(ValueError, match=r"attention_mask: wanted \(batch, length\), got \(2, 64, 64\)"):
        theirs(ids, torch.ones(2, 64, 64))
    longer = torch.randint(7, 1000, (2, 65))
    message = "65 tokens in a sequence, but the model has positions for 64"
    with pytest.raises(ValueError, match=message):
        theirs(longer)
    with pytest.raises(ValueError, match=message):
        ours.encoder(longer, longer * 0, longer * 0, Padded(torch.ones_like(longer, dtype=torch.bool)))


def test_markers_that_share_positions_take_none_of_them(pieces: dict[str, Tokenizer], tmp_path: Path) -> None:
    """As in korbert, texts of max_positions tokens beside their markers are read; not those with a token more."""
    tokenizer, entities = pieces["unigram"], EntityInput(EntityMode.BOTH, shared_positions=True)
    ours, theirs = exported(tmp_path, tokenizer, "span", entities)
    special, text = tokenizer.special, torch.randint(7, 1000, (1, 65))
    marked = torch.cat([text[:, :5], torch.tensor([[special.ent]]), text[:, 5:]], 1)
    with pytest.raises(ValueError, match="66 tokens in a sequence, but the model has positions for 64"):
        theirs(marked)
    marked = marked[:, :-1]
    places = torch.from_numpy(shared_positions(marked[0].numpy(), special))[None]
    every = Padded(torch.ones_like(marked, dtype=torch.bool))
    with torch.no_grad():
        hidden = ours.encoder(marked, marked * 0, marked * 0, every, places)
        start, _ = ours.span(hidden, every, every.attention_mask)
        assert (theirs(marked).start_logits - start).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["span", "pretraining"])
def test_embeddings_of_an_export_are_resized(kind: str, pieces: dict[str, Tokenizer], tmp_path: Path) -> None:
    """Rows more or fewer change nothing of the tokens that stay, in what is saved and loaded again too."""
    rows = len(pieces["unigram"])
    _, theirs = exported(tmp_path, pieces["unigram"], kind, BOTH, **MODERN)
    assert theirs.get_input_embeddings() is theirs.encoder.embeddings.token
    given, _ = inputs(rows - 9)
    name = "logits" if kind == "pretraining" else "start_logits"
    with torch.no_grad():
        wanted = theirs(**given)[name]
        for size in (rows + 5, rows - 9):
            table = theirs.resize_token_embeddings(size)
            assert theirs.get_input_embeddings() is table
            assert (len(table.weight), theirs.config.vocab_size) == (size, size)
            theirs.save_pretrained(tmp_path / str(size))
            again = type(theirs).from_pretrained(tmp_path / str(size)).eval()
            for model in (theirs, again):
                made = model(**given)[name]
                stay = min(size, rows) if kind == "pretraining" else None
                assert made.shape[2:] == ((size,) if stay else ())
                assert (made[..., :stay] - wanted[..., :stay]).abs().max() < 1e-6
                if size > rows:
                    fresh = torch.full_like(given["input_ids"], size - 1)
                    assert model(fresh)[name].isfinite().all()
        if kind == "pretraining":
            bias = theirs.mlm.bias
            assert bias.requires_grad
            theirs.resize_token_embeddings(rows - 9)  # nothing is made anew that an optimizer may know
            assert theirs.mlm.bias is bias


def test_an_export_says_that_it_computes_with_sdpa(pieces: dict[str, Tokenizer], tmp_path: Path) -> None:
    _, theirs = exported(tmp_path, pieces["unigram"], "span", AWARE)
    asked = type(theirs).from_pretrained(tmp_path / "out", attn_implementation="sdpa").eval()
    given, _ = inputs(len(pieces["unigram"]))
    assert torch.equal(asked(**given).start_logits, theirs(**given).start_logits)


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
