"""The demo and the report pages in a real browser: what is shown stands where it should, and nothing is fetched."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from conftest import EVIL
from studies import REPOSITORY, finetuned, pretrained, study
from test_report import row

from korbert.comparison.report import as_html
from korbert.config import DemoConfig, ErrorsConfig, ReportConfig
from korbert.data.korquad import read_korquad, write_predictions
from korbert.demo import DemoServer
from korbert.files import read_json, write_json_atomically
from korbert.tasks.predictions import report_errors
from korbert.tasks.report import make_report

IDLE = "document.getElementById('main').getAttribute('aria-busy') === 'false'"
# Every n-best entry: what the button says, and what is marked while it is pointed at, chosen, and left.
MARKS = """
return [...document.querySelectorAll(".answer")].map((card) =>
  [...card.querySelectorAll(".nbest button")].map((button) => {
    const marked = () => card.querySelector("mark").textContent;
    button.dispatchEvent(new MouseEvent("mouseenter"));
    const pointed = marked();
    button.dispatchEvent(new MouseEvent("mouseleave"));
    const left = marked();
    button.click();
    const before = document.createRange();
    before.setStart(card.querySelector(".context"), 0);
    before.setEndBefore(card.querySelector("mark"));
    return [button.querySelector(".words").textContent, pointed, left, marked(), before.toString()];
  }));
"""

# The text that each row's tokens and what lies between them make.
DRAWN = """
return [...document.querySelectorAll("div.tokens")].map((row) => {
  const copy = row.cloneNode(true);
  copy.querySelectorAll(".chip, .hidden").forEach((chip) => chip.remove());
  return copy.textContent;
});
"""


def fill_in(browser: Browser, text: str, question: str) -> str:
    """Put texts into the fields (the driver cannot type astral characters) and ask; returns what the field has."""
    browser.js("document.getElementById('example').value = ''")
    for name, value in (("text", text), ("question", question)):
        browser.js(
            "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
            "f.dispatchEvent(new Event('input', { bubbles: true }))",
            name,
            value,
        )
    browser.js("document.querySelector('#ask button').click()")
    browser.wait(IDLE)
    field: str = browser.js("return document.getElementById('text').value")
    return field


@pytest.fixture
def page(browser: Browser, demo_server: DemoServer) -> Browser:
    browser.open(demo_server.url)
    browser.wait(IDLE)
    return browser


def test_page_shows_everything_and_fetches_nothing(
    page: Browser, demo_server: DemoServer, demo_config: DemoConfig
) -> None:
    assert page.complaints() == []
    requests = page.requests()
    assert len(requests) >= 9
    assert all(address.startswith(f"{demo_server.url}/") for address in requests)
    assert page.texts("h2") == ["글과 질문", "답", "토큰 나누기", "빈칸 채우기"]
    assert len(page.texts(".answer .best")) == 2
    assert len(page.texts(".answer .nbest button")) >= 4
    assert all(text.startswith("확신 ") for text in page.texts(".sure"))
    assert page.texts(".cut h3") == ["개체 (expressions-mecab+mecab)", "plain", EVIL, "syllables"]
    assert {"[ENT]", "[/ENT]"} == set(page.texts(".chip"))
    assert len(page.texts(".token")) > 100
    assert page.texts(".tokens .entity.time")
    assert len(page.texts("#places ol")) == 2
    assert len(page.texts("#places button")) == 10
    # What is drawn is the text, token by token: its first sentences, or all of it.
    text = page.js("return document.getElementById('text').value")
    first = page.js(DRAWN)
    assert len(set(first)) == 1
    assert text.startswith(first[0] + " ")
    assert first[0].endswith(".")
    page.js("document.getElementById('whole').click()")
    page.wait(IDLE)
    assert page.js(DRAWN) == [text] * 3


def test_hangul_is_drawn_with_a_font_that_has_it(page: Browser) -> None:
    assert page.draws_hangul()
    fonts = page.fonts("#answers h2")  # 답
    assert fonts
    assert not any(name.startswith(("DejaVu", "Liberation", "Last Resort")) for name in fonts)


@pytest.mark.parametrize(
    "text",
    [
        "세종은 조선의 제4대 국왕이다. 세종은 한글을 만들었다.",
        "👍🏽👨‍👩‍👧‍👦𝒳 𠮷野家는 1899년 도쿄에서 시작했다. 🎉 끝.",
        unicodedata.normalize("NFD", "세종은 1443년 훈민정음을 만들었다."),
        "이순\u200b신은\ufeff 1545년\r\n한성에서\n\r\n태어났다. \u202e거꾸로\u202c",
        "<b>서울</b> &amp; <script>alert(1)</script> \"부산\"",
    ],
    ids=["plain", "astral", "nfd", "invisible-crlf", "markup"],
)  # fmt: skip
def test_answers_are_marked_where_they_stand(page: Browser, text: str) -> None:
    field = fill_in(page, text, "언제 <i>어디</i>에서?")
    assert field == text.replace("\r\n", "\n")
    assert page.texts(".context") == [field, field]
    first = page.texts(".answer mark")
    assert first == page.texts(".best")
    cards = page.js(MARKS)
    assert len(cards) == 2
    places = 0
    for number, entries in enumerate(cards):
        kept = first[number]
        for said, pointed, left, chosen, before in entries:
            assert said == pointed == chosen != ""
            assert left == kept
            assert field.startswith(before + said)
            kept = chosen
            places += 1
    assert places > 8
    assert page.texts(".context") == [field, field]
    assert page.complaints() == []


def test_astral_characters_stand_before_the_marks(page: Browser) -> None:
    """Counted in UTF-16 units, every mark would be off by the number of them."""
    text = fill_in(page, "😀" * 7 + " 세종은 조선의 국왕이다.", "누구?")
    for entries in page.js(MARKS):
        assert any(before.startswith("😀" * 7) for *_, before in entries)
        assert all(text.startswith(before + said) for said, *_, before in entries)


def test_names_are_shown_and_not_run(page: Browser) -> None:
    assert page.texts(".answer h3") == ["plain", EVIL]
    assert page.js("return document.querySelectorAll('main script, main img').length") == 0  # nor did an alert stop us


def test_keyboard(page: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    find = page.driver.find_element
    question = find("id", "question")
    question.clear()
    question.send_keys("어디에서 태어났는가?", Keys.ENTER)
    page.wait("document.getElementById('status').textContent.endsWith('걸렸습니다.')")
    assert question.get_attribute("value") == "어디에서 태어났는가?"
    text = find("id", "text")
    text.send_keys(Keys.END, " 끝.", Keys.ENTER)
    assert text.get_attribute("value").endswith("\n")
    assert not page.texts(".context")[0].endswith("\n")
    text.send_keys(Keys.CONTROL, Keys.ENTER)
    page.wait("document.querySelector('.context').textContent.endsWith('\\n')")
    first = find("css selector", ".nbest button")
    page.js("arguments[0].focus()", first)
    first.send_keys(Keys.ARROW_DOWN)
    second = page.driver.switch_to.active_element
    assert second.text.split("\n")[0] == page.texts(".answer:first-child .words")[1]
    assert page.texts(".answer mark")[0] == page.texts(".answer:first-child .words")[1]
    second.send_keys(Keys.ENTER)
    assert second.get_attribute("aria-pressed") == "true"
    line = find("css selector", "div.tokens")
    page.js("arguments[0].focus()", line)
    line.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.texts(".detail")[0].startswith("토큰 2: ")
    assert len(page.texts(".current")) == 1
    # Everything that can be worked has a name.
    unnamed = page.js(
        "return [...document.querySelectorAll('button, select, textarea, input, [tabindex]')].filter(e =>"
        "!(e.labels?.length || e.getAttribute('aria-label') || (e.matches('button') && e.textContent.trim())))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_switches_language_and_masked_words(page: Browser) -> None:
    chips = page.texts(".chip")
    page.js("document.getElementById('marked').click()")
    page.wait(IDLE)
    assert 0 < len(page.texts(".chip")) < len(chips)
    page.js("document.querySelector('[data-language=en]').click()")
    assert page.texts("h2") == ["Text and question", "Answers", "Tokens", "Masked words"]
    assert page.js("return document.documentElement.lang") == "en"
    assert all(text.startswith("confidence ") for text in page.texts(".sure"))
    page.js("document.querySelectorAll('#places ol')[1].querySelectorAll('button')[3].click()")
    chosen = page.texts("#places ol:nth-of-type(1) button[aria-pressed=true] .words")
    assert page.texts("#filled mark") == chosen
    page.js("document.getElementById('masked-text').value = '세종은 왕이다.'")
    page.js("document.querySelector('#fill .main').click()")
    page.wait(IDLE)
    assert page.texts("#fill-status") == ["There is no [MASK] in the text."]
    page.js("localStorage.clear()")
    assert page.complaints() == []


def test_what_is_too_long_is_said_and_not_sent(page: Browser) -> None:
    page.requests()
    fill_in(page, "가" * 10_001, "누구?")
    assert page.texts("#status") == ["글이 너무 깁니다: 10,001자, 최대 10,000자"]
    fill_in(page, "  ", "누구?")
    assert page.texts("#status") == ["글을 써 주세요."]
    assert page.requests() == []
    assert page.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_windows_have_no_overflow(browser: Browser, demo_server: DemoServer, width: int, dark: bool) -> None:
    browser.open(demo_server.url, width=width, height=844, dark=dark)
    browser.wait(IDLE)
    assert browser.overflow() <= 0
    fill_in(browser, "가" * 300 + " " + "x" * 300, "무엇인가요" * 30)
    assert browser.overflow() <= 0
    background = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(16, 22, 28)" if dark else "rgb(244, 246, 248)")


# Text whose contrast with what lies behind it is below 4.5 to 1 (WCAG 2.2, 1.4.3 and its definition of contrast).
PALE = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = (color) => {
  const shares = channels(color).slice(0, 3).map((channel) => channel / 255);
  const [r, g, b] = shares.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (channels(color)[3] !== 0) return color;
  }
};
const shown = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() &&
  [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
return shown.map((element) => {
  const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 80)];
});
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(browser: Browser, demo_server: DemoServer, dark: bool) -> None:
    browser.open(demo_server.url, dark=dark)
    browser.wait(IDLE)
    found = browser.js(PALE)
    assert len(found) > 200
    assert [element for contrast, element in found if contrast < 4.5] == []


# ---- report pages, from a file ----


def fetched(browser: Browser, file: Path) -> list[str]:
    """What a page asked for beside itself."""
    return [
        address
        for address in browser.requests()
        if address != file.resolve().as_uri() and not address.startswith(("data:", "about:"))
    ]


@pytest.mark.filterwarnings("ignore:Glyph")  # where matplotlib has no Korean font; the page's text is the browser's
def test_comparison_page(browser: Browser, tmp_path: Path) -> None:
    example = {"text": "서울역에서 <부산>까지", "tokens": [[0, 2, False], [2, 3, True]], "entities": [[0, 3]]}
    rows = [row("한글 이름", 24.0, 1.0), row("bpe@8000", 73.0, 2.0), row("syllable", 99.0, 2.0, examples=[example])]
    file = tmp_path / "report.html"
    file.write_text(as_html(rows, {}), "utf-8")
    for width in (1280, 390):
        browser.open(file, width=width)
        assert browser.complaints() == []
        assert fetched(browser, file) == []
        assert len(browser.texts("table.sortable")) >= 3
        sizes = browser.js("return [...document.querySelectorAll('.plots svg')].map(e => e.clientHeight)")
        assert len(sizes) == 2
        assert min(sizes) > 100
        assert browser.draws_hangul()
        assert browser.texts(".cuts caption")[-1] == "서울역에서 <부산>까지"
        assert browser.texts(".cuts .unknown")[-1] == "역"
        assert browser.overflow() <= 0
    # Sorting works.
    browser.js("document.querySelectorAll('table.sortable th')[1].click()")
    assert browser.js("return document.querySelector('th[aria-sort]').textContent") == "entries"


def test_error_page(browser: Browser, sample: Path, tmp_path: Path) -> None:
    dev = read_korquad(sample / "KorQuAD_sample_dev.json")
    answers: dict[str, Any] = {q.id: f"{q.answers[0].text}은" for _, _, q in dev.questions()}
    write_predictions(tmp_path / "predictions.json", answers)
    report_errors(ErrorsConfig(predictions=str(tmp_path / "predictions.json"), dataset=str(dev.path)))
    file = tmp_path / "errors.html"
    for width in (1280, 390):
        browser.open(file, width=width)
        assert browser.complaints() == []
        assert fetched(browser, file) == []
        assert len(browser.texts("table")) > 5
        assert browser.draws_hangul()
        widths = browser.js("return [...document.querySelectorAll('.bar')].map(e => e.getBoundingClientRect().width)")
        assert max(widths) > 50
        assert browser.overflow() <= 0


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_study_page(browser: Browser, tmp_path: Path, dark: bool) -> None:
    runs = study(tmp_path / "runs", seeds=(1, 2))
    config = ReportConfig(
        runs=[str(runs)], folder=str(tmp_path / "report"), title="보고서", baseline="entities.mode:none"
    )
    make_report(config)
    file = tmp_path / "report" / "report.html"
    for width in (1280, 390, 320):
        browser.open(file, width=width, dark=dark)
        assert browser.complaints() == []
        assert fetched(browser, file) == []
        assert browser.overflow() <= 0
        assert browser.draws_hangul()
        assert browser.texts("h1") == ["보고서"]
        assert len(browser.texts("table.sortable")) >= 6
        sizes = browser.js("return [...document.querySelectorAll('.plots svg')].map(e => e.clientHeight)")
        assert len(sizes) == 4
        assert min(sizes) > 80
        assert [element for contrast, element in browser.js(PALE) if contrast < 4.5] == []
    head = "document.querySelector('table.sortable').tHead.rows[0].cells[2]"
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    values = f"return {rows}.map(r => parseFloat(r.cells[2].dataset.value))"
    for direction in (True, False):
        browser.js(f"{head}.click()")
        assert browser.js(values) == sorted(browser.js(values), reverse=direction)


# ---- names and texts on every page are shown, and not run ----


def evil_comparison(folder: Path) -> Path:
    example = {"text": EVIL, "tokens": [[0, 8, False], [8, len(EVIL), True]], "entities": [[0, 3]]}
    rows = [row(EVIL, 50.0, 1.0, examples=[example], commit=EVIL, hardware={"device": EVIL}), row("other", 90.0, 2.0)]
    (folder / "report.html").write_text(as_html(rows, {EVIL: EVIL}), "utf-8")
    return folder / "report.html"


def evil_errors(folder: Path) -> Path:
    """A question file whose title, text, question, answer and id are the name of a run."""
    here = folder / EVIL
    here.mkdir()
    answer = {"text": EVIL, "answer_start": 0}
    qas = [{"id": f"{EVIL}{n}", "question": EVIL, "answers": [answer]} for n in range(3)]
    articles = [{"title": EVIL, "paragraphs": [{"context": EVIL + " 이다.", "qas": qas}]}]
    write_json_atomically(here / "questions.json", {"version": EVIL, "data": articles})
    write_predictions(here / "predictions.json", {qa["id"]: f"{EVIL}은" for qa in qas})
    report_errors(ErrorsConfig(predictions=str(here / "predictions.json"), dataset=str(here / "questions.json")))
    return here / "errors.html"


def evil_study(folder: Path) -> Path:
    pretrained(folder / "runs" / EVIL / "pretrain")
    finetuned(folder / "runs" / EVIL / "finetune", 0.5, init=folder / "runs" / EVIL / "pretrain")
    run = finetuned(folder / "runs" / "other", 0.7, "dropout=0.3")
    record = read_json(run / "record.json")
    record |= {"command": EVIL, "commit": EVIL, "hardware": {"device": EVIL}, "versions": {EVIL: EVIL}}
    record["config"]["entities"]["annotator"] = record["results"]["protocol"] = EVIL
    write_json_atomically(run / "record.json", record)
    make_report(ReportConfig(runs=[str(folder / "runs")], folder=str(folder / "report"), title=EVIL))
    return folder / "report" / "report.html"


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("make", [evil_comparison, evil_errors, evil_study])
def test_names_and_texts_are_shown_and_not_run_on_every_page(browser: Browser, tmp_path: Path, make: Any) -> None:
    file = make(tmp_path)
    browser.open(file)
    # An alert would have stopped the driver.
    assert EVIL in browser.js("return document.body.textContent")
    assert browser.js("return document.querySelectorAll('img, script[src], [onerror], [onclick], iframe').length") == 0
    scripts = browser.texts("script")
    assert not any("alert" in script for script in scripts)
    assert len(scripts) <= 1
    assert browser.complaints() == []
    assert fetched(browser, file) == []


def test_every_page_that_is_written_is_looked_at() -> None:
    """A further template needs a test here."""
    templates = sorted(path.name for path in (REPOSITORY / "korbert").rglob("*.html"))
    assert templates == ["errors.html", "index.html", "report.html", "report.html", "sorting.html", "style.html"]
