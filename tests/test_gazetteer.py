"""Particles by hand, names by hand and against a brute-force search, lists that are wrong, and real lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from korbert.entities import EntityAnnotator
from korbert.entities.gazetteer import UNTYPED, GazetteerAnnotator, GazetteerRules
from korbert.josa import is_josa

ALL = GazetteerRules(min_length=1, common_length=0)


@pytest.mark.parametrize(
    ("noun", "rests", "others"),
    [
        (
            "서울",
            "은 이 을 과 로 로부터 에서 에서는 에서부터 의 이다 이라는 들은 들 까지도 에게서만",
            "는 가 를 와 으로 다 시 역 청은",
        ),
        ("부산", "은 으로 으로의 이었다 이고", "로 는 였다 라는"),
        ("제주", "는 가 를 와 로 다 였다 라는 에도", "은 이 을 으로 과"),
        ("KBS", "는 은 가 이 로 으로 다 이다", "방송 본부의"),
        ("서울", "", "특별시 사람"),
    ],
)
def test_particles_by_hand(noun: str, rests: str, others: str) -> None:
    for rest in rests.split():
        assert is_josa(rest, noun[-1]), rest
    for rest in others.split():
        assert not is_josa(rest, noun[-1]), rest


def gazetteer(folder: Path, text: str, rules: GazetteerRules = ALL, name: str = "names.tsv") -> GazetteerAnnotator:
    path = folder / name
    path.write_text(text, "utf-8")
    return GazetteerAnnotator([path], rules)


def found(annotator: EntityAnnotator, text: str) -> list[str]:
    return [f"{entity.of(text)}/{entity.label}" for entity in annotator.annotate(text).entities]


def test_names_by_hand(tmp_path: Path) -> None:
    names = (
        "서울\tLOC\n서울대\tORG\n서울대학교\tORG\n김 구\tPER\nKBS\tORG\n이순신 (1545년)\tPER\n서울\tORG\n\n구미\tLOC\n"
    )
    annotator = gazetteer(tmp_path, names)
    assert found(annotator, "서울에서 서울대학교까지, 서울대는") == ["서울/LOC", "서울대학교/ORG", "서울대/ORG"]
    assert found(annotator, "서울시 서울역 신서울 서울대입구") == []  # the rest is no particle; not at the beginning
    assert found(annotator, "(서울)과 ‘KBS’의 KBS는 KBS1") == ["서울/LOC", "KBS/ORG", "KBS/ORG"]
    assert found(annotator, "백범 김 구와 이순신은 구미를") == ["김 구/PER", "이순신/PER", "구미/LOC"]
    assert found(annotator, "ㅅㅓ울 서 울") == []
    nfd = "\u1109\u1165\u110b\u116e\u11af은"  # 서울은, decomposed
    assert [(e.start, e.end) for e in annotator.annotate(nfd).entities] == [(0, 5)]


def test_short_common_words_are_no_names(tmp_path: Path) -> None:
    lines = "가수\n서울\n우리\n사람\n국가대표선수\n12\n가\nKBS\n"
    annotator = gazetteer(tmp_path, lines, GazetteerRules(), "names.txt")
    assert annotator.names == ["서울", "국가대표선수", "KBS"]
    assert annotator.labels == [UNTYPED] * 3


NAMES = ["가", "가나", "나", "나 다", "다", "가나다라"]


@given(st.text("가나다라은 .", max_size=14))
@example("나  다")
def test_against_brute_force(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    annotator = gazetteer(tmp_path_factory.mktemp("names"), "\n".join(NAMES), name="names.txt")
    # Several spaces count as one, inside a name too.
    kept = [i for i, char in enumerate(text) if char != " " or text[i - 1 : i] != " "]
    plain = "".join(text[i] for i in kept)
    expected = []
    at = 0
    while at < len(plain):
        fitting = []
        for name in NAMES:
            end = at + len(name)
            rest = plain[end:].replace(".", " ").split(" ")[0]
            ends = rest == "" or is_josa(rest, name[-1])
            if plain.startswith(name, at) and (at == 0 or plain[at - 1] in " .") and ends:
                fitting.append(end)
        if fitting:
            expected.append((kept[at], kept[max(fitting) - 1] + 1))
        at = max([*fitting, at + 1])
    assert [(e.start, e.end) for e in annotator.annotate(text).entities] == expected
