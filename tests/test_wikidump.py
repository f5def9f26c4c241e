"""A dump of our own writing: text and links by hand, whole, cut off, resumed, and as a source of entities."""

from __future__ import annotations

import bz2
import gzip
import html
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hydra import initialize_config_dir
from hypothesis import example, given
from hypothesis import strategies as st

from korbert.config import compose_config
from korbert.data import wikitext
from korbert.data.corpus import read_documents
from korbert.data.wikidump import Page, _without_gaps, extract, read_pages
from korbert.entities import make_annotator
from korbert.errors import DataError, KorbertError
from korbert.tasks.wiki import extract_wiki
from korbert.text import trim

SEJONG = """{{왕 정보|이름=세종|사진=[[파일:세종.jpg|섬네일]]}}
'''세종'''(世宗)은 [[조선]]의 제4대 [[국왕|임금]]이다.<ref>[[실록]]에 있다.</ref> 이름은 &quot;이도&quot;이다.
[[파일:훈민정음.jpg|섬네일|[[훈민정음]] 해례본]]

== 생애 ==
* [[집현전]]을 두고 [[장영실]]을 썼다.
* '''[[훈민정음#창제|한글]]'''을 만들었다.[http://example.com 자료]
{| class="wikitable"
| [[표 안의 링크]]
|}
__NOTOC__
[[en:Sejong the Great]][[분류:조선의 왕]]
"""
EXPECTED = [
    ('세종(世宗)은 조선의 제4대 임금이다. 이름은 "이도"이다.', ["조선", "임금"]),
    ("집현전을 두고 장영실을 썼다.", ["집현전", "장영실"]),
    ("한글을 만들었다.자료", ["한글"]),
]
PAGES = [
    (1, 0, "세종", SEJONG, False),
    (2, 0, "이도", "#넘겨주기 [[세종]]", True),
    (3, 1, "토론:세종", "토론 [[문서]]이다.", False),
    *(
        (n, 0, f"마을 {n}", f"'''마을 {n}'''은 [[서울|서울특별시]]에 있다.\n[[강 {n}]]이 흐른다.", False)
        for n in range(4, 104)
    ),
]


def dump(pages: list[tuple[int, int, str, str, bool]] = PAGES) -> str:
    body = ""
    for number, namespace, title, text, is_redirect in pages:
        redirect = '<redirect title="세종" />' if is_redirect else ""
        body += (
            f"<page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{redirect}<revision>"
            f"<id>{number + 1000}</id><timestamp>2026-01-01T00:00:00Z</timestamp><model>wikitext</model>"
            f'<format>text/x-wiki</format><text bytes="9" xml:space="preserve">{escape(text)}</text>'
            f"<sha1>x</sha1></revision></page>\n"
        )
    return (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="ko"><siteinfo>'
        "<sitename>위키</sitename><dbname>kowiki</dbname><base>b</base><generator>g</generator><case>first-letter</case>"
        '<namespaces><namespace key="0" case="first-letter" /><namespace key="1" case="first-letter">토론</namespace>'
        f"</namespaces></siteinfo>\n{body}</mediawiki>\n"
    )


def test_text_and_links_by_hand() -> None:
    article = extract(Page(1, "세종", SEJONG))
    found = [(text.text, [entity.of(text.text) for entity in text.entities]) for text in article.paragraphs]
    assert found == EXPECTED


def shown(source: str) -> list[tuple[str, list[str]]]:
    paragraphs = extract(Page(1, "x", source)).paragraphs
    return [(text.text, [entity.of(text.text) for entity in text.entities]) for text in paragraphs]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[[AT&amp;T]]와 [[가<!-- x -->나]]", [("AT&T와 가나", ["AT&T", "가나"])]),  # links without a text of their own
        ("[['''세종''']]은 [[{{틀}}]]", [("세종은", ["세종"])]),
        ("[[zh-min-nan:Sè-chong]]\n[[simple:Sejong]]\n[[be-x-old:Абв]]\n[[De:X|텍스트]]\n[[분류 :왕]]", []),
        ("[[re:제로]]와 [[:en:Zero]]", [("re:제로와 en:Zero", ["re:제로", "en:Zero"])]),  # no language; to be shown
        ("__목차숨김__ 가 __NOTOC__나", [("가          나", [])]),
        ("가 <nowiki>[[나]] ''다''</nowiki> [[라]]", [("가 [[나]] ''다'' 라", ["라"])]),
        ("__init__ __notoc__ 가__나__다", [(f"__init__{' ' * 11}가{' ' * 5}다", [])]),
        ("[[가|&#95;&#95;목차보임&#95;&#95;]]", [("__목차보임__", ["__목차보임__"])]),  # underscores as characters
    ],
)
def test_what_is_shown_by_hand(source: str, expected: list[tuple[str, list[str]]]) -> None:
    assert shown(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("이도({{lang|zh|李祹}})이다", [("이도(李祹)이다", [])]),
        ("(世宗, {{llang|ko|세종}}, 1397년)", [("(世宗, 세종, 1397년)", [])]),
        ("{{Llang|ja|[[도쿄|東]][[쿄|京]]|도쿄}}는", [("東京는", ["東", "京"])]),  # a reading may come third
        ("[[서울|{{lang-en|''Seoul'' &amp; [[강]]}}]]은", [("Seoul & 강은", ["Seoul & 강"])]),
        ("{{llang-ko-hani|1=世宗}}, {{lang | en |text= a }}, {{원제|fr|L' Été|여름}}", [("世宗,  a , L' Été", [])]),
        ("{{한자|세종|世宗}}, {{한자|李祹}}, {{한자|李|}}", [("世宗, 李祹, 李", [])]),
        ("{{윗주|漢|한}}{{ruby|字|자}} {{옛한글_인라인|나랏말}}", [("漢字 나랏말", [])]),
        ("중국({{zh|s=中国|t=中國|p=Zhōngguó}}, {{zh|p=Z|s=中国}}), {{zh|c=한|t=漢}}", [("중국(中國, 中国), 한", [])]),
        ("{{lang|zh\n|李\n[[도]]}} {{lang|ko|가{{틀|나}}{{lang|ko|다}}}}", [("李 도 가다", ["도"])]),
        ("이도({{lang|zh}}{{language|zh|李祹}}{{lang-e|가}}{{llang|x|2=}})이다", [("이도이다", [])]),  # none to be read
    ],
)
def test_texts_of_a_language_are_read(source: str, expected: list[tuple[str, list[str]]]) -> None:
    assert shown(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("세종({{IPA|x}})은", "세종은"),
        ("세종 ( {{x}}{{y}}\u00a0)은 ({{x}}) 왕", "세종은 왕"),
        ("(世宗, {{x}}, 1397년)", "(世宗, 1397년)"),
        ("({{x}}, 1397년; {{y}}) ({{x}}世宗{{y}}) （{{x}}、{{y}}）", "(1397년) (世宗)"),
        ("가, {{x}}, {{y}};{{z}} 나{{x}}, 다 {{x}} 라", "가, 나, 다  라"),
        ("가, ({{x}}), ({{x}}, {{y}}) 나 (({{x}})) 다 (({{x}}) 라)", "가, 나 다 (라)"),
        ("가 (({{x}})({{y}}) ({{x}})) 나 ({{x}}, ({{y}}), 다)", "가 나 (다)"),
        ("가 ({{x}}, [[나]], {{y}}), 다", "가 (나), 다"),
        ("{{x}}, 가 ( ) (, 나) 다,, 라 ()", ", 가 ( ) (, 나) 다,, 라 ()"),  # as they were written
        ("가()({{x}})나{{x}})({{x}}", "가()나)("),
        ("가 (<ref>x</ref>) {{x}} 나, <!-- --> , 다", "가 ()  나,  , 다"),
        ("가 ({{x}}\n), 나 (\n{{x}}) 다, {{x}}\n, 라", "가 (\n), 나 (\n) 다,\n, 라"),
    ],
)
def test_what_is_left_around_a_template_by_hand(source: str, expected: str) -> None:
    assert "\n".join(text for text, _ in shown(source)) == expected


@given(st.lists(st.sampled_from(("가", "나", " ", ",", ";", "(", ")", "）", "\n", "□", "□")), max_size=25).map("".join))
@example("가 (□), 나")
def test_letters_and_their_places_stay_around_templates(drawn: str) -> None:
    text, gaps = split(drawn)
    made, moved = _without_gaps(text, gaps)
    places = [place for place, sign in enumerate(text) if sign in "가나\n"]
    assert [made[moved(place)] for place in places] == [text[place] for place in places]
    assert [sign for sign in made if sign in "가나\n"] == [text[place] for place in places]
    assert [moved(place) for place in range(len(text) + 1)] == sorted(moved(place) for place in range(len(text) + 1))
    assert moved(len(text)) == len(made)
    depths = [some.count("(") - some.count(")") - some.count("）") for some in (text, made)]
    assert depths[0] == depths[1]
    if not gaps:
        assert made == text
    source = drawn.replace(";", "")  # which begins a list
    lines = [line.strip() for line in _without_gaps(*split(source))[0].split("\n")]
    assert [text for text, _ in shown(source.replace("□", "{{x}}"))] == [
        line for line in lines if re.search("[가나]", line)
    ]


def split(drawn: str) -> tuple[str, list[int]]:
    """The text without □, and where they were in it."""
    parts = drawn.split("□")
    return "".join(parts), [*itertools.accumulate(map(len, parts[:-1]))]


@pytest.mark.parametrize("part", ["(□", "(□)", ", □", "□ ", "(□, ", "가(□ ", " ", "□", "((((□))))", ", (□)"])
def test_many_templates_take_no_time(part: str) -> None:
    text, gaps = split(part * 100_000 + "□" + ")" * 100_000)
    assert len(_without_gaps(text, gaps)[0]) <= len(text)


@given(st.text(alphabet="가나 [|]{}'=*#:<>/ref&;\n분류파일_\u200b\u00ad\ufeff", max_size=60))
@example("{{lang|ko|\n{{lang|ko| [[가\n나]]\n* [[다|{{틀}}]]}}}} ({{틀}}) [[라|({{틀}}), ]]")
@example("[[가|나, {{틀}}]], [[({{틀}}|다]] [[라|({{틀}}]])")
@example("가[[나|__목차__]]다")  # a link of nothing that is shown
@example("[[가|\u200b나\ufeff]]다 [[가|\u00ad]]라")
@example("[[가|나&#8203;]]은 &#xD800; &#0; &nbsp;[[다]]")
def test_any_wikitext_gives_clean_paragraphs(source: str) -> None:
    for text in extract(Page(1, "x", source)).paragraphs:
        assert text.text == text.text.strip() != ""
        assert "\n" not in text.text
        for entity in text.entities:
            assert trim(text.text, entity.start, entity.end) == (entity.start, entity.end)


SIGNS = (
    "<div>", "</div>", '<ref name="a">', "<ref name=", "</ref>", "<br>", "<가 ", "< ", "<b/>", "{{", "}}", "{|", "|}",
    "[[", "]]", "[http://a ", "]", "<!--", "-->", "'''", "__", "|", "가", " ", "\n", "&lt;", "{", "<nowiki>",
)  # fmt: skip


@pytest.mark.parametrize("sign", SIGNS)
def test_what_is_never_closed_is_shown_as_it_was(sign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(1, "글", f"{sign}가나" * 30)
    before = extract(page)
    monkeypatch.setattr(wikitext, "_LIMIT", -1)
    assert extract(page) == before


def test_a_long_run_behind_a_bracket_takes_no_time() -> None:
    text = "<" + "가" * 1_000_000
    assert wikitext.closed(text) == text


@given(st.lists(st.sampled_from(SIGNS), max_size=30).map("".join))
@example("{{{|}}")
def test_everything_is_closed_then(text: str) -> None:
    assert wikitext.closed(text) == text  # it takes no time here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wikitext, "_LIMIT", -1)
        made = wikitext.closed(text)
        patch.setattr(wikitext, "_LIMIT", 0)
        assert wikitext.closed(made) == made  # nothing is left to be changed
    assert html.unescape(made) == html.unescape(text)


@pytest.mark.slow
def test_a_page_of_brackets_that_are_never_closed_is_read() -> None:
    """Without `closed` the parser would take hours."""
    article = extract(Page(1, "글", "<가 나{{다 " * 60_000 + "\n[[라]]"))
    assert [len(paragraph.entities) for paragraph in article.paragraphs] == [0, 1]


def test_signs_of_no_character() -> None:
    (paragraph,) = extract(Page(1, "x", "가 &#xD800; &#57343; &amp; &#44032;")).paragraphs
    assert paragraph.text == "가 \ufffd \ufffd & 가"


@pytest.mark.parametrize("module", ["mwxml", "mwparserfromhell"])
def test_a_missing_parser_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    (tmp_path / "a.xml").write_text(dump(), "utf-8")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(KorbertError, match=r"pip install -e '\.\[wiki\]'"):
        list(map(extract, read_pages(tmp_path / "a.xml")))


@pytest.mark.parametrize(("name", "pack"), [("a.xml", bytes), ("a.xml.bz2", bz2.compress), ("a.xml.gz", gzip.compress)])
def test_articles_alone_are_read(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(dump().encode()))
    pages = list(read_pages(tmp_path / name))
    assert [(page.id, page.title) for page in pages] == [(1, "세종"), *((n, f"마을 {n}") for n in range(4, 104))]
    assert pages[0].wikitext == SEJONG


def test_cut_off_dumps_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.xml.bz2"
    whole = dump().encode()
    for content in (bz2.compress(whole)[:-40], bz2.compress(whole[: len(whole) // 2])):
        path.write_bytes(content)
        seen = []
        with pytest.raises(DataError, match=r"cut\.xml\.bz2.*after (page \d+|the beginning).*cut off or damaged"):
            seen += list(read_pages(path))
    path.write_bytes(bz2.compress(b"<html></html>"))
    with pytest.raises(DataError, match="no MediaWiki dump"):
        list(read_pages(path))


@pytest.fixture
def run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(repository)

    def call(*overrides: str) -> dict[str, Any]:
        basic = [f"run_dir={tmp_path / 'run'}", f"dump={tmp_path / 'wiki.xml.bz2'}", "articles_per_file=30"]
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            return extract_wiki(compose_config("extract_wiki", [*basic, *overrides]))

    return call


def test_a_dump_becomes_a_corpus_with_entities(run: Any, tmp_path: Path) -> None:
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(dump().encode()))
    results = run("runtime.workers=2")["results"]
    assert (results["articles"], results["links"], len(results["files"])) == (101, 5 + 200, 4)
    documents = [d for name in results["files"] for d in read_documents(tmp_path / "run" / name)]
    assert len(documents) == 101
    assert documents[0] == [text for text, _ in EXPECTED]
    annotator = make_annotator(f"links:{tmp_path / 'run' / 'links.sqlite'}")
    for text, links in EXPECTED:
        assert [(e.of(text), e.label) for e in annotator.annotate(text).entities] == [(link, "LINK") for link in links]
    assert annotator.annotate("모르는 글").entities == ()
    both = make_annotator(f"links:{tmp_path / 'run' / 'links.sqlite'}+mecab")
    assert next(e.label for e in both.annotate(EXPECTED[0][0]).entities) == "NNP"  # 세종 is no link
    names = gzip.decompress((tmp_path / "run" / "titles.txt.gz").read_bytes()).decode().splitlines()
    assert names == ["세종", *(f"마을 {n}" for n in range(4, 104))]
    titles = make_annotator(f"gazetteer:{tmp_path / 'run' / 'titles.txt.gz'}")
    assert [e.of("세종은 마을 77에 갔다.") for e in titles.annotate("세종은 마을 77에 갔다.").entities] == [
        "세종",
        "마을 77",
    ]


def written(folder: Path, *wikitexts: str) -> None:
    """A dump of these articles."""
    pages = [(number, 0, f"글 {number}", text, False) for number, text in enumerate(wikitexts, start=1)]
    (folder / "wiki.xml.bz2").write_bytes(bz2.compress(dump(pages).encode()))


@pytest.mark.parametrize("files", [1, 4])
def test_a_paragraph_that_occurs_again_has_the_links_of_all(run: Any, tmp_path: Path, files: int) -> None:
    written(tmp_path, "[[서울]]에 있는 강이다.", "서울에 있는 강이다.", "서울의 강", "서울에 있는 [[강]]이다.")
    results = run("runtime.workers=1", f"articles_per_file={4 // files}")["results"]
    assert (results["articles"], results["links"], len(results["files"])) == (4, 2, files)  # as they are written
    annotator = make_annotator(f"links:{tmp_path / 'run' / 'links.sqlite'}")
    text = "서울에 있는 강이다."
    assert [entity.of(text) for entity in annotator.annotate(text).entities] == ["서울", "강"]


def test_an_article_too_deep_to_be_read_is_named_and_left_blank(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, "[[가]]나", "{{" * 2000 + "가" + "}}" * 2000 + " 나[[다]]", "[[라]]마")
    results = run("runtime.workers=1")["results"]
    assert {"articles": 3, "unread": 1, "paragraphs": 2, "links": 2, "characters": 4}.items() <= results.items()
    named = "page 2 (글 2): left blank: brackets within brackets"
    assert caplog.text.count(named) == 1
    (name,) = results["files"]
    expected = [["가나"], [], ["라마"]]
    assert list(read_documents(tmp_path / "run" / name)) == list(read_documents(tmp_path / "wiki.xml.bz2")) == expected
    assert caplog.text.count(named) == 2


@pytest.mark.parametrize("pages", [[], PAGES[1:3], [(1, 0, "글", "{{틀}}", False)]], ids=["none", "redirect", "blank"])
def test_a_dump_without_any_text_is_refused(run: Any, tmp_path: Path, pages: Any) -> None:
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(dump(pages).encode()))
    for _ in range(2):
        with pytest.raises(DataError, match=r"wiki\.xml\.bz2: pages: [01] articles, and no text in any of them"):
            run("runtime.workers=1")
    assert not (tmp_path / "run" / "record.json").exists()


@pytest.mark.slow
def test_what_was_read_of_a_cut_off_dump_is_kept_and_gone_on_from(run: Any, tmp_path: Path) -> None:
    whole = dump()
    # A download that was cut off, then the whole file under another name: not the same dump.
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(whole[: whole.index("마을 60")].encode()))
    with pytest.raises(DataError, match="cut off or damaged"):
        run()
    state = json.loads((tmp_path / "run" / "progress.json").read_text("utf-8"))
    assert 50 <= state["articles"] <= 57
    kept = [d for name in state["files"] for d in read_documents(tmp_path / "run" / name)]
    assert len(kept) == state["articles"]
    with pytest.raises(DataError, match="cut off or damaged"):
        run()  # nothing is read twice
    again = json.loads((tmp_path / "run" / "progress.json").read_text("utf-8"))
    assert again["articles"] == state["articles"]
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(whole.encode()))
    with pytest.raises(DataError, match="these articles are from another dump"):
        run()
    with pytest.raises(DataError, match="dump: not found"):
        run("dump=nowhere.xml.bz2")


def test_interrupted_and_gone_on(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from korbert.tasks import wiki

    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(dump().encode()))
    made = 0

    def stopping(page: Page) -> Any:
        nonlocal made
        made += 1
        if made == 70:
            raise KeyboardInterrupt
        return extract(page)

    with monkeypatch.context() as patch:
        patch.setattr(wiki, "_extractor", lambda: stopping)
        with pytest.raises(KeyboardInterrupt):
            run("runtime.workers=1")
    links = f"links:{tmp_path / 'run' / 'links.sqlite'}"
    with pytest.raises(DataError, match=r"links\.sqlite: checksum: not finished"):
        make_annotator(links)
    results = run("runtime.workers=1")["results"]
    assert results["articles"] == 101
    assert make_annotator(links).annotate(EXPECTED[0][0]).entities
    names = gzip.decompress((tmp_path / "run" / "titles.txt.gz").read_bytes()).decode().splitlines()
    assert len(names) == len(set(names)) == 101
