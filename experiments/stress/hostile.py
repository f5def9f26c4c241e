"""Hostile input from a seed: text that hurts, files whose bytes or values were changed."""

from __future__ import annotations

import random
import unicodedata
from typing import Any

# Pieces that have hurt tokenizers, offsets and readers somewhere; drawn more often than any character there is.
FRAGMENTS = [
    *"가나다라은는이가를을의에로도와과한국어세종대왕",
    *"abcXYZ019 ,.!?()[]{}<>\"'`~@#$%^&*-_=+|\\/:;",
    *"ㄱㅏㅋㅎㆎ", *"\u1100\u1112\u1161\u11a8\u11ab\ud7b0\ua960", *"李伊國\uf9e1㐀", *"ｶﾞ１Ａ\uffa1\uffa0\u3164",
    *"㈜㎏①½ﬁﷺ´…", *"éñßİıΣς", "a\u0301\u0323", "각\u0301", *"אבשלום", *"السلام", *"ไทย", "क्षि",
    "👍", "👨‍👩‍👧", "🇰🇷", "👍🏽", "\U0001f1f0", "\U000e0041", "\U0010ffff", "\ufdd0", "\uffff",
    *" \t\n\r\u000b\u000c\u0085\u00a0\u2028\u2029\u3000\u200b\u200d\u200e\u202e\u2060\u2066\ufeff\u00ad\ufe0f\u180e",
    "\x00", "\x01", "\x7f", "\ud800", "\udfff", "▁", "##", "[ENT]", "[/ENT]", "[MASK]", "[CLS]", "<s>", "<unk>",
    "서울특별시", "대한민국은", "1443년", "김철수가", "이순신은 ", "한국어를 ", "  ", " ", "은 ", "에서 ",
    unicodedata.normalize("NFD", "한국"), "{", "}", '"', "null", "NaN", "1e999", "-", "../", "\\u0000", "%s",
    "{root}", "<0xEA>",
]  # fmt: skip


def text(rng: random.Random, longest: int = 40) -> str:
    """Up to `longest` pieces; now and then any characters at all, or one piece over and over."""
    count, kind = rng.randrange(longest + 1), rng.random()
    if kind < 0.75:
        return "".join(rng.choices(FRAGMENTS, k=count))
    if kind < 0.9:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(count))
    return rng.choice(FRAGMENTS) * count


def edges(rng: random.Random, length: int, most: int = 6) -> list[int]:
    """Places in a text, in order, each once."""
    return sorted({rng.randrange(length + 1) for _ in range(rng.randrange(most))})


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, lost, doubled or put in; or the end cut off."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[place : place + rng.randrange(1, 9)]
        elif kind == 2:
            out[place:place] = out[place : place + rng.randrange(1, 9)]
        elif kind == 3:
            out[place:place] = rng.randbytes(rng.randrange(1, 5))
        else:
            del out[place:]
    return bytes(out)


def changed_value(rng: random.Random, value: Any) -> Any:
    """A JSON value with one part, anywhere in it, replaced, lost or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: changed_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value[:place] + value[place + 1 :]
        if rng.random() < 0.1:
            return [*value[:place], value[place], *value[place:]]
        return [*value[:place], changed_value(rng, value[place]), *value[place + 1 :]]
    return rng.choice(
        [
            None,
            True,
            False,
            0,
            -1,
            1,
            2**70,
            1.5,
            float("nan"),
            float("inf"),
            "",
            " ",
            text(rng, 5),
            [],
            {},
            [[]],
            [None],
        ]
    )
