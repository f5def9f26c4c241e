"""Models of transformers' come in: the same numbers as the original's, for every family."""

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
from foreign import SMALL, inputs, saved, theirs
from hydra import initialize_config_dir

from korbert.config import FinetuneConfig, compose_config
from korbert.data.batching import collate_windows
from korbert.data.decoding import DecodingConfig, decode_answers
from korbert.data.korquad import read_korquad
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.model import PretrainingModel, SpanModel
from korbert.model.foreign import from_transformers
from korbert.prediction import window_logits
from korbert.tasks.importing import import_model, read_weights
from korbert.tasks.starting import starting_point
from korbert.training.bundle import load_bundle
from korbert.training.runtime import Runtime
from korbert.training.state import save_tensors

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = ["bert", "roberta", "roberta-pad0", "roberta-pad3", "xlm-roberta", "electra", "electra-small", "bert-old"]


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


@pytest.mark.parametrize("lacking", [0, 3])
def test_tokens_without_an_embedding_are_said(
    lacking: int, vocabulary: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The markers, which are always added, aside."""
    source = saved(theirs("bert", "MaskedLM", len(vocabulary) - lacking), "bert", vocabulary, tmp_path / "hf")
    import_model(str(source), tmp_path / "cache")
    said = f"3 tokens of the tokenizer have no embedding in the checkpoint (vocab_size={len(vocabulary) - 3})"
    assert (said in caplog.text) == bool(lacking)


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
    attempt(r"bert\.encoder\.layer\.3.*: the checkpoint has no such weight", num_hidden_layers=4)
    attempt(r"layer\.0\.intermediate\.dense\.weight: shape \(96, 48\), wanted \(64, 48\)", intermediate_size=64)
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


# Of what import_model reads of a config.json: values that cannot be. 10**12 of anything would not fit into memory.
WRONG_SIZES = [None, "32", 32.0, True, [32], 0, -1, float("nan"), float("inf"), 1e12, 10**12]
WRONG_SHARES = [None, "0.1", True, [0.1], -0.1, 1, float("nan"), float("inf"), 10**400]
WRONG_SCALES = [None, "1e-12", True, {}, 0, -1, float("nan"), float("inf"), 10**400]
WRONG = {
    **dict.fromkeys(
        ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
         "max_position_embeddings", "type_vocab_size"), WRONG_SIZES,
    ),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), WRONG_SHARES),
    **dict.fromkeys(("layer_norm_eps", "initializer_range"), WRONG_SCALES),
    "model_type": [None, ["bert"], 1],
    "hidden_act": [None, ["gelu"], 1],
}  # fmt: skip
# Keys whose sizes are compared with the weights' are named by the weight, where they are numbers that could be.
WEIGHT_OF = {
    "vocab_size": "word_embeddings", "hidden_size": "word_embeddings", "num_hidden_layers": r"layer\.1",
    "intermediate_size": "intermediate", "max_position_embeddings": "position_embeddings",
    "type_vocab_size": "token_type_embeddings", "num_attention_heads": "num_attention_heads",
}  # fmt: skip


@pytest.fixture
def tiny(vocabulary: list[str], tmp_path: Path) -> Path:
    """A folder with a BERT of one layer, its masked-LM head too."""
    model = theirs("bert", "MaskedLM", len(vocabulary), num_hidden_layers=1)
    return saved(model, "bert", vocabulary, tmp_path / "hf")


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_is_refused_by_file_and_key(key: str, tiny: Path, tmp_path: Path) -> None:
    """Before anything is kept, and before anything of a size that is too large is made."""
    config = json.loads((tiny / "config.json").read_text())
    for value in WRONG[key]:
        (tiny / "config.json").write_text(json.dumps({**config, key: value}))
        named = rf"config\.json: model: {key}: "
        if isinstance(value, int) and value == 10**12:
            named = rf"config\.json: model: {key}: |model\.safetensors: [\w.]*{WEIGHT_OF[key]}[\w.]*: "
        with pytest.raises(DataError, match=named):
            import_model(str(tiny), tmp_path / "cache")
    if WRONG[key] is WRONG_SIZES and key != "type_vocab_size":  # the others have a usual value
        (tiny / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != key}))
        with pytest.raises(DataError, match=rf"config\.json: model: {key}: missing"):
            import_model(str(tiny), tmp_path / "cache")
    assert not (tmp_path / "cache" / "models").exists()


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("bert.embeddings.word_embeddings.weight", lambda w: w[:, 0], r"shape \(\d+,\), wanted \(\d+, 48\)"),
        ("bert.embeddings.word_embeddings.weight", lambda w: w[:-1], r"shape \(\d+, 48\), wanted \(\d+, 48\)"),
        ("bert.embeddings.word_embeddings.weight", lambda w: w.to(torch.int8), r"floating-point .*found torch\.int8"),
        ("bert.embeddings.word_embeddings.weight", lambda w: w * torch.nan, "numbers that are not finite"),
        ("bert.embeddings.position_embeddings.weight", lambda w: w[0, 0], r"shape \(\), wanted \(130, 48\)"),
        ("bert.embeddings.token_type_embeddings.weight", lambda w: w[:1], r"shape \(1, 48\), wanted \(2, 48\)"),
        ("bert.embeddings.LayerNorm.bias", lambda w: w[:, None], r"shape \(48, 1\), wanted \(48,\)"),
        ("cls.predictions.bias", lambda w: torch.cat([w, w]), r"shape \(\d+,\), wanted \(\d+,\)"),
        ("cls.predictions.transform.dense.weight", lambda w: w[:3], r"shape \(3, 48\), wanted \(48, 48\)"),
        ("bert.encoder.layer.0.attention.self.query.bias", lambda w: w[:, None], r"shape \(48, 1\), wanted \(48,\)"),
        ("bert.encoder.layer.0.attention.self.key.weight", lambda w: w[:7], r"shape \(7, 48\), wanted \(48, 48\)"),
        ("bert.encoder.layer.0.output.dense.weight", lambda w: w.mT, r"shape \(96, 48\), wanted \(48, 96\)"),
        ("bert.encoder.layer.0.output.LayerNorm.weight", lambda w: w.bool(), r"floating-point .*found torch\.bool"),
    ],
)  # fmt: skip
def test_a_wrong_weight_is_refused_by_file_and_name(
    name: str, change: Any, problem: str, tiny: Path, tmp_path: Path
) -> None:
    weights = read_weights(tiny / "model.safetensors")
    assert name in weights
    save_tensors(tiny / "model.safetensors", weights | {name: change(weights[name]).contiguous()}, {})
    with pytest.raises(DataError, match=rf"model\.safetensors: {re.escape(name)}: .*{problem}"):
        import_model(str(tiny), tmp_path / "cache")
    assert not (tmp_path / "cache" / "models").exists()


def test_the_other_families_embedding_size_is_not_read(tiny: Path, tmp_path: Path) -> None:
    """As in transformers, whose ELECTRA alone has the key."""
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "embedding_size": 24}))
    assert load_bundle(import_model(str(tiny), tmp_path / "cache")).description.model.embedding_size == 0


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


def test_weights_by_name_alone_are_not_enough() -> None:
    with pytest.raises(ValueError, match=r"bert\..*: the checkpoint has no such weight"):
        from_transformers(
            {"model_type": "bert", "hidden_size": 8, "vocab_size": 9, "num_hidden_layers": 1, "num_attention_heads": 1,
             "intermediate_size": 8, "max_position_embeddings": 8}, {}, 9,
        )  # fmt: skip
