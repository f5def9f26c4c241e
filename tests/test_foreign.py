"""Models of transformers' in, and korbert's out: the same numbers both ways, for every family."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from models import shaken
from torch import Tensor

from korbert.config import ExportConfig, FinetuneConfig, ModelSize, compose_config
from korbert.data.batching import Batch, SpanBatch, collate_windows
from korbert.data.decoding import DecodingConfig, decode_answers
from korbert.data.korquad import read_korquad
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityInput, EntityMode
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.model import ModelConfig, Padded, PretrainingModel, ReplacedTokenModel, SpanModel, TaggerModel
from korbert.model.foreign import from_transformers
from korbert.prediction import window_logits
from korbert.tasks.exporting import export_model
from korbert.tasks.importing import import_model, read_weights
from korbert.tasks.starting import model_sizes, starting_point
from korbert.text import WORD_START
from korbert.tokenizers import CharacterTokenizer, SentencePieceTokenizer, Tokenizer, WordPieceTokenizer
from korbert.tokenizers.conversion import as_fast_tokenizer
from korbert.training.bundle import Description, load_bundle, write_description
from korbert.training.runtime import Runtime
from korbert.training.state import save_tensors

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 130,
}  # fmt: skip
FAMILIES = ["bert", "roberta", "roberta-pad0", "roberta-pad3", "xlm-roberta", "electra", "electra-small", "bert-old"]


@pytest.fixture(scope="module")
def vocabulary(sample: Path) -> list[str]:
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    trained = WordPieceTokenizer.train(lines, 1400)
    pieces = [token for token in trained.vocabulary if not token.startswith("[") and token != WORD_START]
    pieces = [p[1:] if p.startswith(WORD_START) else f"##{p}" for p in pieces]  # as BERT writes them
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]


def theirs(family: str, head: str, rows: int, **more: Any) -> Any:
    """A model of the family with weights far from zero."""
    torch.manual_seed(3)
    name = {"bert": "Bert", "roberta": "Roberta", "xlm": "XLMRoberta", "electra": "Electra"}[family.split("-")[0]]
    options: dict[str, Any] = {"vocab_size": rows, "pad_token_id": 0, **SMALL, **more}
    if "roberta" in family:
        pad_id = int(family.partition("-pad")[2] or 1)
        options |= {"type_vocab_size": 1, "max_position_embeddings": 131 + pad_id, "pad_token_id": pad_id}
    if family == "electra-small":
        options["embedding_size"] = 24
    if family == "electra":
        options["embedding_size"] = 48
    model = getattr(transformers, f"{name}For{head}")(getattr(transformers, f"{name}Config")(**options))
    return shaken(model, 5, 0.05)


def saved(model: Any, family: str, vocabulary: list[str], folder: Path) -> Path:
    folder.mkdir()
    if family == "bert-old":  # as before safetensors, with LayerNorm's old names
        old = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
            for k, v in model.state_dict().items()
        }
        torch.save(old, folder / "pytorch_model.bin")
        model.config.save_pretrained(folder)
    else:
        model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), "utf-8")
    return folder


def inputs(rows: int, segments: int = 2) -> tuple[dict[str, Tensor], Batch]:
    g = torch.Generator().manual_seed(1)
    lengths = torch.tensor([37, 20, 5])
    mask = torch.arange(37) < lengths[:, None]
    ids = torch.randint(5, rows, (3, 37), generator=g)
    types = torch.randint(0, segments, (3, 37), generator=g)
    batch = Batch(ids, types, torch.zeros_like(ids), Padded(mask))
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask.long()}, batch


@pytest.mark.parametrize("family", FAMILIES)
def test_span_models_come_in(family: str, vocabulary: list[str], tmp_path: Path) -> None:
    """Hidden states and span logits within 1e-5, entity embedding zero, markers without effect on anything else."""
    rows = len(vocabulary) + (20 if family == "electra" else 0)  # some have more rows than tokens
    model = theirs(family, "QuestionAnswering", rows)
    source = saved(model, family, vocabulary, tmp_path / "hf")
    bundle = load_bundle(import_model(str(source), tmp_path / "cache"))
    assert bundle.description.kind == "span"
    ours = bundle.model
    assert isinstance(ours, SpanModel)
    table = ours.encoder.embeddings.entity
    assert table is not None
    assert not table.weight.any()
    special = bundle.tokenizer.special
    assert bundle.tokenizer.vocabulary[special.ent] == "[ENT]"
    assert special.ent == len(vocabulary)
    assert len(ours.encoder.embeddings.token.weight) >= len(bundle.tokenizer)
    given, batch = inputs(len(vocabulary), 1 if "roberta" in family else 2)
    ones = dataclasses.replace(batch, segment_ids=torch.ones_like(batch.segment_ids)) if "roberta" in family else batch
    entities = dataclasses.replace(ones, entity_ids=torch.ones_like(batch.entity_ids))  # zero rows: no effect
    with torch.no_grad():
        expected = model(**given)
        hidden = ours.encode(entities)
        start, end = ours.span(hidden, batch.layout, torch.ones_like(batch.token_ids, dtype=torch.bool))
    attended = batch.layout.attention_mask  # type: ignore[union-attr]
    assert (start - expected.start_logits)[attended].abs().max() < 1e-5
    assert (end - expected.end_logits)[attended].abs().max() < 1e-5
    assert expected.start_logits[attended].std() > 0.1
    # Again: nothing is made twice.
    assert import_model(str(source), tmp_path / "cache") == bundle.folder


@pytest.mark.parametrize(
    ("family", "head"),
    [("bert", "PreTraining"), ("bert", "MaskedLM"), ("bert-old", "MaskedLM"), ("roberta", "MaskedLM"),
     ("roberta-pad0", "MaskedLM"), ("xlm-roberta", "MaskedLM")],
)  # fmt: skip
def test_pretraining_models_come_in(family: str, head: str, vocabulary: list[str], tmp_path: Path) -> None:
    """Vocabulary logits, and next sentence with its two classes turned round."""
    model = theirs(family, head, len(vocabulary))
    source = saved(model, family, vocabulary, tmp_path / "hf")
    ours = load_bundle(import_model(str(source), tmp_path / "cache")).model
    assert isinstance(ours, PretrainingModel)
    given, batch = inputs(len(vocabulary), 1 if "roberta" in family else 2)
    places = torch.nonzero(batch.layout.attention_mask.flatten()).flatten()  # type: ignore[union-attr]
    with torch.no_grad():
        expected = model(**given)
        hidden = ours.encode(batch)
        logits = ours.mlm_logits(hidden, places)
    reference = expected.prediction_logits if head == "PreTraining" else expected.logits
    assert (logits[:, : len(vocabulary)] - reference.flatten(0, 1)[places]).abs().max() < 1e-5
    if head == "PreTraining":
        assert ours.nsp is not None
        turned = expected.seq_relationship_logits.flip(1)
        assert (ours.nsp(hidden[:, 0]) - turned).abs().max() < 1e-5
    else:
        assert ours.nsp is None


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("own", ["weight", "bias", "missing", "none"])
def test_a_head_with_output_weights_of_its_own_stays_out(
    family: str, own: str, vocabulary: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a word on it, and the encoder is the same; one that is tied in fact comes in, whatever config.json says."""
    model = theirs(family, "MaskedLM", len(vocabulary), tie_word_embeddings=False)
    head = model.cls.predictions if family == "bert" else model.lm_head
    with torch.no_grad():
        if own != "weight":
            head.decoder.weight.copy_(model.get_input_embeddings().weight)
        head.decoder.bias = torch.nn.Parameter(head.bias + (own == "bias"))
    source = saved(model, family, vocabulary, tmp_path / "hf")
    if own == "missing":  # and then the configuration decides
        weights = read_weights(source / "model.safetensors")
        save_tensors(source / "model.safetensors", {k: v for k, v in weights.items() if ".decoder." not in k}, {})
    bundle = load_bundle(import_model(str(source), tmp_path / "cache"))
    assert bundle.description.kind == ("pretraining" if own == "none" else "encoder")
    assert ("the masked-LM head is left out" in caplog.text) == (own != "none")
    given, batch = inputs(len(vocabulary), 1)
    attended = batch.layout.attention_mask  # type: ignore[union-attr]
    with torch.no_grad():
        expected = model(**given, output_hidden_states=True)
        hidden = bundle.model.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout)
        assert (hidden - expected.hidden_states[-1])[attended].abs().max() < 1e-5
        if own == "none":
            places = torch.nonzero(attended.flatten()).flatten()
            logits = bundle.model.mlm_logits(hidden, places)[:, : len(vocabulary)]  # type: ignore[union-attr, operator]
            assert (logits - expected.logits.flatten(0, 1)[places]).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["bert", "roberta", "roberta-pad0"])
def test_other_padding_than_the_tokenizer_s_is_said(
    family: str, vocabulary: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Token 0 is the tokenizer's; of a RoBERTa whose own is 1, texts with token 1 have other positions."""
    source = saved(theirs(family, "MaskedLM", len(vocabulary)), family, vocabulary, tmp_path / "hf")
    import_model(str(source), tmp_path / "cache")
    assert ("pad_token_id=1 is [UNK] in the tokenizer" in caplog.text) == (family == "roberta")


def test_a_bare_encoder_can_be_fine_tuned_from(vocabulary: list[str], tmp_path: Path) -> None:
    model = transformers.ElectraModel(
        transformers.ElectraConfig(vocab_size=len(vocabulary), embedding_size=24, **SMALL)
    )
    source = saved(model, "electra", vocabulary, tmp_path / "hf")
    config = FinetuneConfig(run_dir="x", init=f"hf:{source}")
    config.data.cache = str(tmp_path / "cache")
    bundle, tokenizer_folder = starting_point(config)
    assert bundle is not None
    assert bundle.description.kind == "encoder"
    assert (tokenizer_folder / "tokenizer.json").is_file()


def test_predictions_of_an_imported_model_are_the_original_s(
    vocabulary: list[str], tmp_path: Path, data_root: Path
) -> None:
    """200 real questions through transformers' tokenizer and model, and through korbert's: the same answers."""
    model = theirs("bert", "QuestionAnswering", len(vocabulary))
    source = saved(model, "bert", vocabulary, tmp_path / "hf")
    bundle = load_bundle(import_model(str(source), tmp_path / "cache"))
    fast = transformers.BertTokenizerFast(str(source / "vocab.txt"), do_lower_case=False, strip_accents=False)
    dev = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    articles = next(n for n in range(1, 141) if len(dev.subset(range(n))) >= 200)
    window = WindowConfig(120, 32, 72)
    maker = WindowMaker(bundle.tokenizer, make_annotator("mecab"), EntityMode.NONE, window)
    windows, _ = maker.dataset(dev.subset(range(articles)))
    ids = list(dict.fromkeys(w.question_id for w in windows))[:200]
    windows = [w for w in windows if w.question_id in set(ids)]
    entities = [dataclasses.replace(w, entity_ids=np.ones_like(w.token_ids)) for w in windows]  # rows of zeros
    runtime = Runtime(torch.device("cpu"), False)
    collate = functools.partial(collate_windows, pad_id=0)
    said, with_entities = (window_logits(bundle.model, given, collate, runtime, 16) for given in (windows, entities))  # type: ignore[arg-type]
    decoding = DecodingConfig(n_best=window.max_length)  # every pair of places
    answers = decode_answers(windows, said, decoding)
    assert answers == decode_answers(windows, with_entities, decoding)
    questions = {question.id: (question.text, p.context) for _, p, question in dev.questions()}
    place = 0
    for key in ids:
        text, context = questions[key]
        encoded = fast(
            text, context, truncation="only_second", max_length=120, stride=32,
            return_overflowing_tokens=True, return_offsets_mapping=True, padding=True, return_tensors="pt",
        )  # fmt: skip
        offsets = encoded.pop("offset_mapping").tolist()
        encoded.pop("overflow_to_sample_mapping")
        with torch.no_grad():
            expected = model(**encoded)
        mine = [(w, logits) for w, logits in zip(windows, said, strict=True) if w.question_id == key]
        assert len(mine) == len(offsets)
        best = (-np.inf, "")
        for row, (w, logits) in enumerate(mine):
            assert encoded["input_ids"][row, : len(w)].tolist() == w.token_ids.tolist()
            begin, stop = w.context_start, w.context_start + len(w.starts)
            assert offsets[row][begin:stop] == [
                list(pair) for pair in zip(w.starts.tolist(), w.ends.tolist(), strict=True)
            ]
            theirs_said = [part[row, begin:stop].numpy() for part in (expected.start_logits, expected.end_logits)]
            for one, other in zip((logits.start, logits.end), theirs_said, strict=True):
                assert np.abs(one[begin:stop] - other).max() < 1e-5
            scores = theirs_said[0][:, None] + theirs_said[1][None, :]
            length = np.arange(stop - begin)[None, :] - np.arange(stop - begin)[:, None] + 1
            scores[(length < 1) | (length > decoding.max_answer_length)] = -np.inf
            first, last = np.unravel_index(scores.argmax(), scores.shape)
            best = max(best, (scores.max(), context[offsets[row][begin + first][0] : offsets[row][begin + last][1]]))
        assert answers[key][0].text == best[1]
        place += len(mine)
    assert place == len(windows)


# ---- errors ----


def test_what_cannot_come_in_is_named(vocabulary: list[str], tmp_path: Path) -> None:
    model = theirs("bert", "QuestionAnswering", len(vocabulary))
    source = saved(model, "bert", vocabulary, tmp_path / "hf")
    config = json.loads((source / "config.json").read_text())

    def attempt(message: str, **changes: Any) -> None:
        (source / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(DataError, match=message):
            import_model(str(source), tmp_path / "cache")

    attempt("model_type: 'gpt2' is unknown, wanted one of bert, roberta", model_type="gpt2")
    attempt("hidden_act: 'relu' is not supported", hidden_act="relu")
    attempt("position_embedding_type: 'relative_key' is not supported", position_embedding_type="relative_key")
    attempt("a decoder is not an encoder", is_decoder=True)
    attempt("pad_token_id: None is not supported", model_type="roberta", pad_token_id=None)
    attempt(r"no weight bert\.encoder\.layer\.3", num_hidden_layers=4)
    attempt(r"shape \(48, 96\), but config\.json says \(48, 64\)", intermediate_size=64)
    (source / "config.json").write_text(json.dumps(config))
    content = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors.*damaged"):
        import_model(str(source), tmp_path / "cache")
    (source / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"wanted model\.safetensors or pytorch_model\.bin"):
        import_model(str(source), tmp_path / "cache")
    with pytest.raises(ConfigError, match="is no folder, and cannot be a name"):
        import_model("../some where", tmp_path / "cache")


def test_no_code_is_run_from_a_checkpoint(vocabulary: list[str], tmp_path: Path) -> None:
    source = saved(theirs("bert", "QuestionAnswering", len(vocabulary)), "bert-old", vocabulary, tmp_path / "hf")

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"x": Evil()}, source / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin.*no plain tensors"):
        import_model(str(source), tmp_path / "cache")
    assert not (tmp_path / "harm").exists()


def test_names_of_the_hub_need_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError("no route")

    monkeypatch.setattr(hub, "snapshot_download", refused)
    with pytest.raises(KorbertError, match=r"klue/bert-base: no folder of that name, and .* \(no route\)"):
        import_model("klue/bert-base", tmp_path)


# ---- out ----


def a_run(
    folder: Path, tokenizer: Tokenizer, kind: str, entities: EntityInput, **options: Any
) -> tuple[Any, ModelConfig]:
    """A model folder with weights far from zero."""
    sizes = ModelConfig(
        len(tokenizer), 48, 3, 4, 96, max_positions=64, entity_types=entities.entity_types, **options
    )  # fmt: skip
    torch.manual_seed(1)
    made = {"span": SpanModel, "pretraining": PretrainingModel, "detection": ReplacedTokenModel}
    model: Any = TaggerModel(sizes, 3) if kind == "tagger" else made[kind](sizes)
    objectives = {"pretraining": ("mlm", "nsp"), "detection": ReplacedTokenModel.objectives}
    shaken(model, 2, 0.05)
    tokenizer.save(folder / "tok")
    description = Description(
        "pretraining" if kind == "detection" else kind, sizes,
        "none" if entities.mode is EntityMode.NONE else "mecab", entities, 64, objectives=objectives.get(kind, ()),
        tags=("O", "B-X", "I-X") if kind == "tagger" else (),
    )  # fmt: skip
    write_description(folder / "model", description, folder / "tok")
    save_tensors(folder / "model" / "model.safetensors", model.state_dict(), {"step": 1})
    return model, sizes


@pytest.fixture(scope="module")
def pieces(sample: Path) -> dict[str, Tokenizer]:
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    return {
        "unigram": SentencePieceTokenizer.train(lines, 1200),
        "bpe": SentencePieceTokenizer.train(lines, 1200, model_type="bpe"),
        "characters": CharacterTokenizer.train(lines, 900),
    }


PLAIN = EntityInput(EntityMode.NONE)
AWARE = EntityInput(EntityMode.BOTH, typed=True)
MODERN = {"norm": "pre", "positions": "rotary", "feed_forward": "geglu"}


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


def as_its_readme_says(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of an export, loaded by the very lines of its README."""
    (lines,) = re.findall("```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"folder": folder}
    exec(lines, names)
    return names["model"].eval(), names["tokenizer"]


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


def test_imported_models_are_fine_tuned_with_entities(
    vocabulary: list[str], tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from korbert.tasks.finetune import finetune_korquad

    monkeypatch.chdir(repository)
    source = saved(theirs("roberta", "MaskedLM", len(vocabulary)), "roberta", vocabulary, tmp_path / "hf")
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose_config(
            "finetune_korquad",
            [f"init=hf:{source}", f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}", "entities=mecab",
             "train.steps=2", "task.window.max_length=120", "task.window.doc_stride=20", "train.batch_size=4",
             "task.window.max_question_length=40", "task.letters=8"],
        )  # fmt: skip
    record = finetune_korquad(config)
    assert record["results"]["steps"] == 2
    bundle = load_bundle(tmp_path / "run")
    assert bundle.description.entities.mode is EntityMode.BOTH
    assert bundle.model.config.letters == 8


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


def test_weights_by_name_alone_are_not_enough() -> None:
    with pytest.raises(ValueError, match="no weight bert"):
        from_transformers(
            {"model_type": "bert", "hidden_size": 8, "vocab_size": 9, "num_hidden_layers": 1, "num_attention_heads": 1,
             "intermediate_size": 8, "max_position_embeddings": 8}, {}, 9,
        )  # fmt: skip
