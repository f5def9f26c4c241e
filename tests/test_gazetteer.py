"""Particles by hand, names by hand and against a brute-force search, lists that are wrong, and real lists."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from korbert.entities import EntityAnnotator, make_annotator
from korbert.entities.gazetteer import UNTYPED, GazetteerAnnotator, GazetteerRules
from korbert.errors import DataError, KorbertError, WriteError
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
        # Behind particles, too, the form is the one that the sound before it wants, and nothing follows the last.
        (
            "한국",
            "이야말로 은커녕 이면 이라면 이라서 이던 이거나 이면서 이었습니다 이에요 뿐이다 뿐만 뿐이며 만을 "
            "만으로 만은 까지를 까지다 에서와 에서처럼 에서만이 과의 으로의 으로까지 이나마 보다도 에게까지도",
            "야말로 는커녕 만를 까지을 은로 이이 만와 에는는 뿐다 만라 를를 의는",
        ),
        # With 는 drawn in; 론 is as often a theory's name.
        ("서울", "에선 에겐 엔 까진 부턴 보단 로선", "으로선 론 선 진"),
        ("한글", "이었으나 이었는데 이라던 이라고도 임을", "였으나 라던"),
        ("부산", "으론 으로선 으로썬 께선", "로선 론"),
        ("제주", "에선 엔 로선 였으나 였지만 였는데 라면 라던 면", "으로선 으론 론 에선은"),
        ("나라", "야말로 는커녕 였습니다 예요 와의 로의 에서는 까지가", "이야말로 은커녕 를을 가는 와을 에가을"),
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
    whole = make_annotator(f"gazetteer-all:{tmp_path / 'names.txt'}")
    assert found(whole, "가수와 사람은 서울에 12") == [f"{name}/{UNTYPED}" for name in ("가수", "사람", "서울")]


def test_names_that_are_left_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where those that are left come from the cache: of one's own list none is lost without a word."""
    (tmp_path / "own.txt").write_text("세종\n가수\n정조\n우리\n사람\n국가대표선수\n", "utf-8")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO"):
            assert len(GazetteerAnnotator([tmp_path / "own.txt"], cache=tmp_path / "cache").names) == 2
        assert "gazetteer: 2 names of 1 files; 4 of up to 4 characters, such as 가수, 정조, 우리" in caplog.text
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_what_follows_a_particle_belongs_to_the_eojeol(tmp_path: Path) -> None:
    annotator = gazetteer(tmp_path, "서울\tLOC\n")
    assert found(annotator, "서울로7017은 서울은KBS") == []
    assert found(annotator, "서울로, 서울은(漢城) 서울의.") == ["서울/LOC"] * 3


def test_blanks_at_the_ends_of_names_are_left_out(tmp_path: Path) -> None:
    annotator = gazetteer(tmp_path, "서울\tLOC\n\u200b부산 \tLOC\n")
    text = "\ufeff서울\u200b은 \u00ad부산\ufe0f 서\u200b울"
    assert [entity.of(text) for entity in annotator.annotate(text).entities] == ["서울", "부산", "서\u200b울"]


def test_whatever_changes_names_changes_the_fingerprint(tmp_path: Path) -> None:
    content = "서울\n부산광역시\n"
    plain = [gazetteer(tmp_path, content, rules, "names.txt") for rules in (
        GazetteerRules(), GazetteerRules(min_length=3), GazetteerRules(common_length=0),
        GazetteerRules(analyser="kiwi"),
    )]  # fmt: skip
    (tmp_path / "more.txt").write_text("대전\n", "utf-8")
    names, more = tmp_path / "names.txt", tmp_path / "more.txt"
    lists = [GazetteerAnnotator(files) for files in ([names, more], [more, names], [more])]
    as_table = tmp_path / "names.tsv"  # the same bytes, read in another way
    as_table.write_text(content, "utf-8")
    others = [GazetteerAnnotator([as_table]), GazetteerAnnotator([names, as_table])]
    prints = [annotator.fingerprint for annotator in [*plain, *lists, *others]]
    assert len(set(prints)) == len(prints)
    unions = [make_annotator(f"gazetteer:{a}+gazetteer:{b}").fingerprint for a, b in ((names, more), (names, names))]
    assert len({*unions, *prints}) == len(prints) + 2


def test_every_list_counts(tmp_path: Path) -> None:
    """Of one gazetteer, however many there are, and of several in a union."""
    files = []
    for number in range(14):
        name = f"{'가나다라마바사아자차카타파하'[number]}양광역시"
        files.append(tmp_path / f"list{number}.txt")
        files[-1].write_text(f"{name}\n", "utf-8")
    text = "가양광역시 하양광역시 사양광역시는"
    cache = tmp_path / "cache"
    for _ in range(2):  # made, and kept
        one = make_annotator(f"gazetteer:{','.join(map(str, files))}", cache=cache)
        assert [entity.of(text) for entity in one.annotate(text).entities] == text.removesuffix("는").split()
    union = "+".join(f"gazetteer:{file}" for file in files)
    assert make_annotator(union).annotate(text).entities == one.annotate(text).entities
    files[-1].unlink()
    with pytest.raises(DataError, match=r"list13\.txt: entities\.annotator: not found: wanted a list of names"):
        make_annotator(union)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "서울\tLOC\n부산\n", r"a\.tsv: line 2: wanted a name, a tab and its type, got '부산'"),
        ("a.tsv", "서울\tLOC\tx\n", r"a\.tsv: line 1: wanted a name, a tab"),
        ("a.tsv", "\tLOC\n", r"a\.tsv: line 1: wanted a name, a tab"),
        ("a.tsv", " \tLOC\n", r"a\.tsv: line 1: wanted a name, a tab"),
        ("a.tsv", "\n서울\t \n", r"a\.tsv: line 2: wanted a name, a tab"),
        ("a.tsv", "서울\tLO\rC\n", r"a\.tsv: line 1: wanted no control characters, got '서울\\tLO\\rC'"),
        ("a.txt", "서울\n부산\tLOC\n", r"a\.txt: line 2: wanted a name and no tab .* is a \.tsv file"),
        ("a.txt", "서울\n\n부\0산\n", r"a\.txt: line 3: wanted no control characters"),
        ("a", "서울\r부산\r대구\r", r"a: line 1: wanted no control characters"),
        ("a.txt", b"\xec\x84\x9c\n\xb0\xa1\n", r"a\.txt: line 2: not UTF-8 at byte 0"),
        ("a.csv", "서울,LOC\n", r"a\.csv: entities\.annotator: wanted a list of names, a \.txt file"),
        ("a.jsonl", '{"name": "서울"}\n', r"a\.jsonl: entities\.annotator: wanted a list of names, a \.txt file"),
        ("a.txt", "12\n!\n", r"entities\.annotator: no name is left of .*a\.txt: wanted some of 1 characters"),
    ],
)
def test_broken_lists_are_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KorbertError, match=message) as caught:
        GazetteerAnnotator([tmp_path / name], ALL).annotate("서울")
    assert len(str(caught.value)) < 500


def test_a_list_that_is_cut_off_is_named(tmp_path: Path) -> None:
    packed = gzip.compress("".join(f"이름{n}호\n" for n in range(5000)).encode())
    (tmp_path / "names.txt.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"names\.txt\.gz: after line \d+: cannot be read on"):
        GazetteerAnnotator([tmp_path / "names.txt.gz"], ALL).annotate("서울")


def test_names_that_cannot_be_kept_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "names.txt").write_text("서울\n", "utf-8")

    def fail(*_: object) -> None:
        raise WriteError(tmp_path, "file", "cannot be written")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("korbert.entities.gazetteer.write_text_atomically", fail)
        annotator = GazetteerAnnotator([tmp_path / "names.txt"], ALL, tmp_path / "cache")
        assert found(annotator, "서울은") == [f"서울/{UNTYPED}"]
    assert "the names are read again at the next start" in caplog.text


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


@given(st.lists(st.text("가나다라은 .\n\t\u200b\u0301ᄀ㈜", max_size=14), max_size=8), st.sampled_from([1, 10, 1000]))
def test_texts_together_have_the_names_of_each(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], at_once: int
) -> None:
    annotator = gazetteer(tmp_path_factory.mktemp("names"), "\n".join(NAMES), name="names.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("korbert.entities.gazetteer._AT_ONCE", at_once)
        assert annotator.annotate_all(texts) == [annotator.annotate(text) for text in texts]
