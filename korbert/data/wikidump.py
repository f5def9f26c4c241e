"""MediaWiki XML dumps: plain paragraphs whose links are entities, marked by the people who wrote the articles."""

from __future__ import annotations

import bisect
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from korbert.data.wikitext import closed
from korbert.errors import DataError, KorbertError
from korbert.lines import is_damage, kind_of, open_binary
from korbert.text import LONE_SURROGATE, AnnotatedText, Span, trim

log = logging.getLogger(__name__)
LINK = "LINK"
RULES = "links-5"  # raise the number when other text or other links are found in the same dump
_ARTICLES = 0  # namespace
# Tags whose content is not running text.
_NO_TEXT = frozenset((
    "ref", "references", "table", "gallery", "math", "chem", "timeline", "syntaxhighlight", "source", "pre", "code",
    "score", "imagemap", "style", "script", "templatestyles", "mapframe", "graph",
))  # fmt: skip
_LIST_MARKS = frozenset("*#:;")
# Templates that show a text as it is given to them, because it is of some language, and under which names they may be
# given it. What they show beside it (the language's name, a reading) is left out; of Chinese signs the first that there
# are: of any way to write them, of traditional ones, of simplified ones.
_TEXT_OF = {
    **dict.fromkeys(("lang", "llang"), ("2", "text")),
    "원제": ("2",),
    **dict.fromkeys(("옛한글", "옛한글 인라인", "윗주", "ruby"), ("1",)),
    "한자": ("2", "1"),
    "zh": ("1", "c", "t", "s"),
}
_OF_A_LANGUAGE = re.compile(r"l?lang-[a-z]{2,3}(-[a-z0-9]+)*")  # {{lang-en|text}}
_OPEN, _CLOSE, _SEPARATORS, _SPACES = frozenset("(（"), frozenset(")）"), frozenset(",;、，"), " \t\u00a0\u3000"
_BETWEEN = _SEPARATORS | frozenset(_SPACES)
_NO_PARSER = "reading a MediaWiki dump needs packages: pip install -e '.[wiki]'"
# https://www.mediawiki.org/wiki/Help:Magic_words#Behavior_switches, and their Korean names; __init__ is text.
_SWITCH = re.compile(
    r"__(?:(?:force|no)?toc|noeditsection|(?:no)?newsectionlink|nogallery|hiddencat|"
    r"expectunused(?:category|template)|no(?:content|title)convert|nocc|notc|(?:no)?index|start|end|staticredirect|"
    r"disambig|noglobal|archivedtalk|notalk|expected_unconnected_page|[가-힣]+)__",
    re.IGNORECASE,
)
# Links to files, categories and the same article in another language are shown elsewhere or as pictures. Of languages:
# all Wikipedias, closed ones and older names too, https://meta.wikimedia.org/wiki/List_of_Wikipedias.
_PREFIXES = """
파일 그림 분류 file image category media 미디어
aa ab ace ady af ak als am ami an ang ann anp ar arc ary arz as ast atj av avk awa ay az azb ba ban bar bat-smg
bbc bcl bdr be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm bug bxr ca cbk-zam cdo ce ceb ch
cho chr chy ckb cmn co cr crh cs csb cu cv cy cz da dag de dga din diq dk dsb dtp dty dv dz ee egl el eml en
en-simple eo epo es et eu ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan gcr gd gl glk gn gom
gor got gpe gsw gu gur guw gv ha hak haw he hi hif ho hr hsb ht hu hy hyw hz ia iba id ie ig igl ii ik ilo inh
io is it iu ja jam jbo jp jv ka kaa kab kbd kbp kcg kg kge ki kj kk kl km kn knc ko koi kr krc ks ksh ku kus kv
kw ky la lad lb lbe lez lfn lg li lij lld lmo ln lo lrc lt ltg lv lzh mad mai map-bms mdf mg mh mhr mi min
minnan mk ml mn mni mnw mo mos mr mrj ms mt mus mwl my myv mzn na nah nan nap nb nds nds-nl ne new ng nia nl nn
no nov nqo nr nrm nso nup nv ny oc olo om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn
qu rki rm rmy rn ro roa-rup roa-tara rsk ru rue rup rw sa sah sat sc scn sco sd se sg sgs sh shi shn si simple
sk skr sl sm smn sn so sq sr srn ss st stq su sv sw syl szl szy ta tay tcy tdd te tet tg th ti tig tk tl tlh tly
tn to tok tokipona tpi tr trv ts tt tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo vro wa war wo wuu xal xh
xmf yi yo yue za zea zgh zh zh-cfr zh-classical zh-cn zh-min-nan zh-tw zh-yue zu
"""
_SHOWN_ELSEWHERE = frozenset(_PREFIXES.split())


def reading_rules(sources: Iterable[Path]) -> dict[str, str]:
    """What decides, beside its bytes, what is read of a corpus: `RULES`, where there is a dump among its files."""
    return {"reading": RULES} if any(kind_of(path) == ".xml" for path in sources) else {}


@dataclass(frozen=True, slots=True)
class Page:
    """An article as it is written."""

    id: int
    title: str
    wikitext: str


@dataclass(frozen=True, slots=True)
class Article:
    """An article to be read: paragraphs, none of them blank, with their links as entities.

    problem: why none could be read, "" where they were.
    """

    id: int
    title: str
    paragraphs: tuple[AnnotatedText, ...]
    problem: str = ""

    def warn(self) -> None:
        """Say in the log that it is left blank, where it could not be read."""
        if self.problem:
            log.warning("page %d (%s): left blank: %s", self.id, self.title, self.problem)


def read_pages(path: Path) -> Iterator[Page]:
    """Stream the articles of one dump (.xml, as it is or with .bz2, .gz, .xz or .zst), redirects left out.

    Raises DataError, naming file and page, where it is cut off or damaged, and KorbertError without the parser.
    """
    try:
        import mwxml
    except ImportError:
        raise KorbertError(_NO_PARSER) from None
    last = "the beginning"
    try:
        with open_binary(path) as file:
            for page in mwxml.Dump.from_file(file):
                text = ""
                for revision in page:  # the last one is the newest
                    text = revision.text or ""
                last = f"page {page.id} ({page.title})"
                if page.namespace == _ARTICLES and not page.redirect:
                    yield Page(page.id, page.title, text)
    except (ParseError, AssertionError, ValueError) as error:
        raise DataError(path, f"after {last}", f"no MediaWiki dump, or cut off or damaged ({error!r})") from error
    except Exception as error:
        if is_damage(error):
            raise DataError(path, f"after {last}", f"cut off or damaged ({error!r})") from error
        if type(error).__module__.startswith("mwxml"):
            raise DataError(path, f"after {last}", f"no MediaWiki dump, or damaged ({error!r})") from error
        raise


def extract(page: Page) -> Article:
    """The running text of an article: no tables, references, headings or pictures, and of templates the text alone that
    they show as being of some language. Brackets and commas around another one go with it, where they hold nothing
    else.

    One whose brackets are too deep for the parser has no paragraphs, and a problem. Raises KorbertError without the
    parser.
    """
    try:
        import mwparserfromhell
    except ImportError:
        raise KorbertError(_NO_PARSER) from None

    text = _Text()
    try:
        text.add(mwparserfromhell.parse(closed(page.wikitext)))
    except RecursionError:
        return Article(page.id, page.title, (), "brackets within brackets, deeper than can be read")
    return Article(page.id, page.title, tuple(text.paragraphs()))


class _Text:
    """Plain text and the links in it, as they are met."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._links: list[tuple[int, int]] = []
        self._gaps: list[int] = []  # where templates were left out
        self._templates = 0  # around what is read now: it is part of a line

    def add(self, code: Any) -> None:
        from mwparserfromhell import nodes

        for node in code.nodes:
            if isinstance(node, nodes.Text):
                self._emit(_SWITCH.sub(lambda match: " " * len(match.group()), str(node)))
            elif isinstance(node, nodes.Wikilink):
                self._link(node)
            elif isinstance(node, nodes.ExternalLink):
                if node.title is not None:
                    self.add(node.title)
            elif isinstance(node, nodes.HTMLEntity):
                self._emit(LONE_SURROGATE.sub("\ufffd", node.normalize()))  # as in a browser
            elif isinstance(node, nodes.Heading):
                self._emit("\n")
            elif isinstance(node, nodes.Tag):
                self._tag(node)
            elif isinstance(node, nodes.Template):
                self._template(node)

    def _emit(self, text: str) -> None:
        self._parts.append(text.replace("\n", " ") if self._templates else text)
        self._length += len(text)

    def _link(self, node: Any) -> None:
        title = _plain(node.title)
        prefix, _, rest = title.partition(":")
        if rest and prefix.strip().lower() in _SHOWN_ELSEWHERE:
            return
        start = self._length
        if node.text is None:
            self._emit(title.removeprefix(":"))
        else:
            self.add(node.text)
        self._links.append((start, self._length))

    def _tag(self, node: Any) -> None:
        name = str(node.tag).strip().lower()
        if name in ("br", "p", "li", "dt", "dd", "hr") or node.wiki_markup in _LIST_MARKS:
            self._emit("\n")
        if name not in _NO_TEXT and node.contents is not None:
            self.add(node.contents)

    def _template(self, node: Any) -> None:
        before = self._length
        name = str(node.name).strip().replace("_", " ").lower()
        keys = ("1",) if _OF_A_LANGUAGE.fullmatch(name) else _TEXT_OF.get(name, ())
        if keys:
            given = {str(part.name).strip(): part.value for part in node.params}
            self._templates += 1
            for value in [given[key] for key in keys if key in given and given[key].nodes][:1]:
                self.add(value)
            self._templates -= 1
        if self._length == before:
            self._gaps.append(before)

    def paragraphs(self) -> Iterator[AnnotatedText]:
        """Lines with a letter, white space at their ends removed, and the links that lie in each of them."""
        whole, moved = _without_gaps("".join(self._parts), self._gaps)
        place = 0
        links = iter(sorted((moved(start), moved(end)) for start, end in self._links))
        link = next(links, None)
        for raw in whole.split("\n"):
            text = raw.strip()
            begin = place + raw.index(text)
            end = begin + len(text)
            found: list[Span] = []
            while link is not None and link[0] < place + len(raw):
                first, last = trim(text, max(link[0], begin) - begin, min(link[1], end) - begin)
                if first < last and (not found or first >= found[-1].end):
                    found.append(Span(first, last, LINK))
                link = next(links, None)
            if any(map(str.isalpha, text)):
                yield AnnotatedText(text, tuple(found))
            place += len(raw) + 1


def _without_gaps(text: str, gaps: list[int]) -> tuple[str, Callable[[int], int]]:
    """Without brackets and separators that have nothing but gaps between them, and where a place of the text is then.

    "x (□) y" becomes "x y", "(□, y" "(y", "x, □)" "x)" and "x, □, y" "x, y". gaps: places of the text, in order.
    """
    edits: list[tuple[int, int, str]] = []  # from, to, and what is there instead
    done = number = 0
    while number < len(gaps):
        low = high = gaps[number]  # what is left out already
        while True:
            start, end = low, high
            while start > done and text[start - 1] in _BETWEEN:
                start -= 1
            while end < len(text) and text[end] in _BETWEEN:
                end += 1
            before = text[start:low]
            if start == done and edits:  # these brackets begin where the last edit ends
                start, _, before = edits.pop()
                done = edits[-1][1] if edits else 0
            parts = [before if low == high else before.rstrip(_SPACES)]
            while number < len(gaps) and gaps[number] <= end:
                parts.append(text[high : gaps[number]])
                high = max(high, gaps[number])
                number += 1
            parts.append(text[high:end])
            opened, closed = start > done and text[start - 1] in _OPEN, text[end : end + 1] in _CLOSE
            if not (opened and closed):
                break
            low, high = start - 1, end + 1
        edits.append((start, end, "" if opened or closed else _joined(parts)))
        done = end
    places, lengths = [start for start, _, _ in edits], [len(new) - end + start for start, end, new in edits]
    shifts = [0, *itertools.accumulate(lengths)]

    def moved(place: int) -> int:
        after = bisect.bisect_right(places, place)
        if not after or place >= edits[after - 1][1]:
            return place + shifts[after]
        start, _, new = edits[after - 1]
        return start + shifts[after - 1] + min(place - start, len(new))

    ends = [0, *(end for _, end, _ in edits)]
    pieces = [text[end:start] + new for end, (start, _, new) in zip(ends, edits, strict=False)]
    return "".join(pieces) + text[ends[-1] :], moved


def _joined(parts: list[str]) -> str:
    """What is around gaps, with a separator once where there is one on both sides of a gap."""
    whole, has_separator = "", False
    for part in parts:
        separates = not _SEPARATORS.isdisjoint(part)
        if separates and has_separator:
            whole, part = whole.rstrip(_SPACES), part[len(part.rstrip(_SPACES)) :]
        whole += part
        has_separator |= separates
    return whole


def _plain(code: Any) -> str:
    text = _Text()
    text.add(code)
    return "".join(text._parts).strip()
