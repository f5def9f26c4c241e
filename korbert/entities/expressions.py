"""Numbers, dates and times from a morphological analyser: 16명, 8.3%, 1만 5천 원, 지난 15일, 오전 9시 30분.

A number goes on through further numbers, the signs between them, and its unit; several numbers with units that follow
each other are one, where all are of a date or time, or none is. It is a date or a time if its last unit says so. For
analysers with the Sejong tag set.
"""

from __future__ import annotations

import re

from korbert.entities.base import EntityAnnotator, mapped_back
from korbert.errors import ConfigError, meant
from korbert.morphology import Morpheme, make_analyser
from korbert.text import AnnotatedText, Normalizer, Span

QUANTITY, DATE, TIME = "QT", "DT", "TI"
ANALYSERS = ("mecab", "mecab_ko", "kiwi", "komoran", "konlpy_mecab")
_RULES = "expressions-4"  # raise the number when the rules below change what is found
_NUMBER, _UNIT, _NOUN = ("SN", "NR"), ("NNBC", "NNB"), "NNG"
_LONGEST_NOUN = 3  # of a noun that is the unit of a number, 16강, 3박자; longer ones only follow


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMERALS = _words("한 두 세 네 석 넉 서 너 닷 엿 다섯 여섯 일곱 여덟 아홉 열 열두 스무 스물 첫 몇")
_BETWEEN, _BEHIND = frozenset(".,~∼-–/:·"), _words("% ％ ℃ ° ㎞ 여")
_SUFFIXES = _words("여 째 번째 대 쯤 간 동안 생")  # behind a unit
_DATE_UNITS = _words("년 월 일 세기 주 주일 개월 달 년대 분기 연대 주년 주차 연도")
_TIME_UNITS = _words("시 분 초 시간")
_DATE_WORDS = _words(
    "올해 이날 이달 그날 당일 전날 다음날 매일 지난주 지난달 지난해 다음주 다음달 이번주 이번달 작년 금년 내년 재작년 "
    "내달 어제 오늘 내일 모레 그제 올봄 올여름 올가을 올겨울 새해 주말 월요일 화요일 수요일 목요일 금요일 토요일 일요일"
)
_TIME_WORDS = _words("오전 오후 새벽 아침 정오 한낮 낮 저녁 밤 자정")
_BEFORE_DATE = re.compile(r"(?<!\w)(?:지난|오는|올)\s?$")
_ORDINAL = re.compile(r"(?<!\w)제\s?$")
_LOOK_BACK = 4


class ExpressionAnnotator(EntityAnnotator):
    """Numbers, dates and times of one analyser. Raises ConfigError for one with another tag set."""

    def __init__(self, analyser: str = "mecab") -> None:
        if analyser not in ANALYSERS:
            raise ConfigError(
                f"entities.annotator: expressions need one of {', '.join(ANALYSERS)}, got {analyser!r}"
                + meant(analyser, ANALYSERS)
            )
        self.analyser = make_analyser(analyser)
        self._normalizer = Normalizer("NFC")

    @property
    def fingerprint(self) -> str:
        """The rules, the analyser and its version."""
        return f"{_RULES}/{self.analyser.name}-{self.analyser.version}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its numbers, dates and times as entities."""
        normal = self._normalizer(text)
        found = find_expressions(normal.text, self.analyser.analyse(normal.text))
        return mapped_back(normal, ((span.start, span.end, span.label) for span in found))


def find_expressions(text: str, morphemes: list[Morpheme]) -> list[Span]:
    """Expressions among the morphemes of a text, in order."""
    return _Finder(text, morphemes).find()


class _Finder:
    """One pass over the morphemes of a text."""

    def __init__(self, text: str, morphemes: list[Morpheme]) -> None:
        self.text = text
        self.morphemes = morphemes
        self.said = [text[m.start : m.end] for m in morphemes]
        self.tags = [m.tag for m in morphemes]

    def find(self) -> list[Span]:
        found: list[Span] = []
        at = 0
        while at < len(self.morphemes):
            after, label = self._expression(at)
            if after > at:
                begin = found[-1].end if found else 0
                start = self._widened(self.morphemes[at].start, label, begin)
                found.append(Span(start, self.morphemes[after - 1].end, label))
            at = max(after, at + 1)
        return found

    def _expression(self, first: int) -> tuple[int, str]:
        """The first morpheme behind the expression that begins at `first`, if any, else `first`; its kind."""
        label = QUANTITY
        at = first
        is_verb = self.tags[first].startswith("V")  # 낮다 has the stem 낮
        if not is_verb and (self.said[first] in _DATE_WORDS or self.said[first] in _TIME_WORDS):
            label = DATE if self.said[first] in _DATE_WORDS else TIME
            at += 1
        while self._begins_number(at) and (at == first or self._is_near(at)):
            after, unit = self._number(at)
            kind = DATE if unit in _DATE_UNITS else TIME if unit in _TIME_UNITS else QUANTITY
            if at > first and (kind == QUANTITY) != (label == QUANTITY):  # 2010년 3위 are two
                break
            at, label = after, kind
        return at, label

    def _widened(self, start: int, label: str, limit: int) -> int:
        """The start with 지난 or 오는 of a date, with 제 of an ordinal."""
        before = self.text[max(limit, start - _LOOK_BACK) : start]
        match = (_BEFORE_DATE if label == DATE else _ORDINAL).search(before)
        return start - len(before) + match.start() if match else start

    def _begins_number(self, at: int) -> bool:
        if at >= len(self.tags):
            return False
        if self._is_numeral(at):
            return at + 1 < len(self.tags) and self.tags[at + 1] in (*_UNIT, _NOUN) and self._is_near(at + 1)
        return self.tags[at] in _NUMBER

    def _is_numeral(self, at: int) -> bool:
        return self.said[at] in _NUMERALS and self.tags[at].startswith(("MM", "NR"))

    def _number(self, first: int) -> tuple[int, str]:
        """The first morpheme behind a number and its unit, and the unit; "" without one."""
        unit = ""
        at = first + 1
        while at < len(self.tags):
            adjoins, said, tag = self._adjoins(at), self.said[at], self.tags[at]
            if unit:
                if not adjoins or said not in _SUFFIXES:
                    break
                unit = unit + said if unit + said in _DATE_UNITS else unit
            elif tag in _NUMBER and (adjoins or tag == "NR"):
                pass
            elif adjoins and said in _BETWEEN and self._goes_on(at + 1):
                at += 1
            elif not (adjoins and said in _BEHIND):
                if not self._is_unit(at, first):
                    break
                unit = said
            at += 1
        return at, unit

    def _is_unit(self, at: int, first: int) -> bool:
        if self.tags[at] in _UNIT or (self.tags[at] == _NOUN and at == first + 1 and self._is_numeral(first)):
            return self._is_near(at)
        return self._adjoins(at) and self.tags[at] in (_NOUN, "SL") and len(self.said[at]) <= _LONGEST_NOUN

    def _goes_on(self, at: int) -> bool:
        return at < len(self.tags) and self.tags[at] in _NUMBER and self._adjoins(at)

    def _adjoins(self, at: int) -> bool:
        return self.morphemes[at].start == self.morphemes[at - 1].end

    def _is_near(self, at: int) -> bool:
        """Whether at most a space stands between a morpheme and the one before."""
        return self.text[self.morphemes[at - 1].end : self.morphemes[at].start] in ("", " ")
