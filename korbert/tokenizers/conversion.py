"""korbert's tokenizers as Hugging Face's, as far as those can be the same."""

from __future__ import annotations

from typing import Any

from korbert.errors import KorbertError
from korbert.text import Normalizer
from korbert.tokenizers.base import Tokenizer
from korbert.tokenizers.published import HuggingFaceTokenizer
from korbert.tokenizers.subwords import SentencePieceTokenizer


def as_fast_tokenizer(tokenizer: Tokenizer) -> Any:
    """A `PreTrainedTokenizerFast` with the same ids, special tokens and `[CLS] A [SEP] B [SEP]`.

    Its normalisation is the library's own, which differs from korbert's in rare characters. Raises KorbertError for a
    tokenizer that Hugging Face's library cannot express, and without transformers.
    """
    try:
        from tokenizers import Tokenizer as Backend
        from tokenizers import processors
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise KorbertError("a Hugging Face tokenizer needs packages: pip install -e '.[hf]'") from None
    special = tokenizer.special
    names = {token: tokenizer.vocabulary[token] for token in special.ids.tolist()}
    if isinstance(tokenizer, HuggingFaceTokenizer):
        backend = Backend.from_str(tokenizer.serialized)
        backend.no_truncation()
        backend.no_padding()
    elif isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.pretokenizer.is_plain:
        backend = _from_sentencepiece(tokenizer)
    else:
        raise KorbertError(f"Hugging Face's library has no tokenizer that does what this one does ({tokenizer.kind})")
    backend.add_special_tokens([names[token] for token in sorted(names)])
    cls, sep = names[special.cls], names[special.sep]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, special.cls), (sep, special.sep)],
    )  # fmt: skip
    roles = {"pad": special.pad, "unk": special.unk, "cls": special.cls, "sep": special.sep, "mask": special.mask}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{role}_token": names[token] for role, token in roles.items()},
        additional_special_tokens=[names[special.ent], names[special.ent_end]],
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def _from_sentencepiece(tokenizer: SentencePieceTokenizer) -> Any:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    model = sentencepiece_model(tokenizer)
    made = Backend(model)
    form: Normalizer = tokenizer.normalizer
    steps: list[Any] = [getattr(normalizers, form.form)()] if form.form != "none" else []
    steps += [normalizers.Lowercase()] if form.lowercase else []
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    if _has_bytes(tokenizer):
        # Six letters that read as the name of a byte, as in "<0x41>", are letters.
        letters = pre_tokenizers.Split(Regex("<(?=0x[0-9A-F]{2}>)"), "merged_with_previous")
        made.pre_tokenizer = pre_tokenizers.Sequence([made.pre_tokenizer, letters])
        made.decoder = decoders.Sequence([decoders.ByteFallback(), made.decoder])
    return made


def _has_bytes(tokenizer: SentencePieceTokenizer) -> bool:
    """Whether an unknown character becomes its bytes."""
    return bool(tokenizer.training.get("byte_fallback"))


def sentencepiece_model(tokenizer: SentencePieceTokenizer, with_special: bool = True) -> Any:
    """The vocabulary as a model of the library `tokenizers`: unigram scores, or BPE merges.

    with_special: ids as korbert's, with the special tokens in front; else SentencePiece's own.
    """
    from tokenizers import models

    scores = tokenizer.scores()
    if with_special:
        own = tokenizer.vocabulary[: len(tokenizer) - len(scores) + 1]
        # Special tokens are never text: no piece is ever made of them.
        scores = {**dict.fromkeys(own, -1e9), **dict(list(scores.items())[1:])}
    unknown = tokenizer.special.unk if with_special else 0
    if tokenizer.training["model_type"] == "unigram":
        return models.Unigram(list(scores.items()), unk_id=unknown, byte_fallback=_has_bytes(tokenizer))
    # A merge for every way to put a piece together from two; the best piece first, as SentencePiece does.
    ranked = sorted(scores, key=lambda piece: -scores[piece])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    vocabulary = {piece: i for i, piece in enumerate(scores)}
    return models.BPE(
        vocabulary, merges, unk_token=list(scores)[unknown], fuse_unk=True, byte_fallback=_has_bytes(tokenizer)
    )
