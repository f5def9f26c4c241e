"""Particles behind a noun: does the rest of an eojeol say nothing but "this was a noun"?

Source: the case and auxiliary particles and the copula of the Standard Korean Language Dictionary; the forms that
depend on a final consonant are checked against the noun's.
"""

from __future__ import annotations

import re
from functools import lru_cache

_FIRST, _LAST, _FINALS = 0xAC00, 0xD7A3, 28
LONGEST = 32  # characters; particles behind each other have far fewer
_RIEUL = 8  # ㄹ, behind which 로 stands as it does behind a vowel
# Behind these others may stand; behind a topic, subject, object, 의 or 도, or a form of 이다, nothing does.
_CASE = (
    "에서부터 에게서부터 에서 에게서 에게 한테서 한테 께서 께 에 부터 까지 보다 처럼 같이 마다 조차 마저 밖에 뿐 대로 "
    "하고 만 만큼 치고"
)
_CASE_AFTER_CONSONANT, _CASE_AFTER_VOWEL = "과 이나 이랑", "와 나 랑"
_EURO, _RO = "으로서 으로써 으로부터 으로", "로서 로써 로부터 로"
_LAST_OF_ALL = "의 도"
# With 는 drawn in. Of 로 only where it has more: behind 론 stands a noun as often, 진화론 is a theory.
_TOPICS = "에선 에게선 에겐 엔 께선 한텐 부턴 까진 보단 에서부턴"
_TOPICS_EURO, _TOPICS_RO = "으론 으로선 으로썬", "로선 로썬"
_LAST_AFTER_CONSONANT = (
    "은 이 을 은커녕 이야말로 이나마 이며 이고 이든지 이든 이란 이라도 이라는 이라고 이라 이여 이야 아"
)
_LAST_AFTER_VOWEL = "는 가 를 는커녕 야말로 나마 며 고 든지 든 란 라도 라는 라고 라 여 야"
_FURTHER = "만 까지 부터 조차 마저 처럼 보다 밖에"
_COPULA = (
    "이다 이었다 이었던 이었으며 이었고 이었으나 이었지만 이었는데 이었습니다 이며 이고 이지만 이자 인 인데 일 임 임을 "
    "입니다 이에요 이므로 이어서 이면 이라면 이라서 이라던 이라며 이던 이거나 이면서 이라는 이라고 이라고도 이라곤"
)
_COPULA_AFTER_VOWEL = (
    "다 였다 였던 였으며 였고 였으나 였지만 였는데 였습니다 예요 지만 자 므로 여서 면 라면 라서 라던 라며 라고도 라곤"
)
_CLOSED = "만뿐큼랑"  # last syllables of particles that end with a consonant


def _one_of(words: str) -> str:
    return f"(?:{'|'.join(sorted(words.split(), key=len, reverse=True))})"


def _behind_particles(closed: str, opened: str) -> str:
    """What may stand behind a particle, as its last sound wants it."""
    return f"(?:(?<=[{_CLOSED}]){_one_of(closed)}|(?<![{_CLOSED}]){_one_of(opened)})"


def _pattern(case: str, last: str, copula: str) -> re.Pattern[str]:
    more = _behind_particles(f"{_FURTHER} {_CASE_AFTER_CONSONANT} 으로", f"{_FURTHER} {_CASE_AFTER_VOWEL} 로")
    end = _behind_particles(
        f"{_LAST_OF_ALL} {_LAST_AFTER_CONSONANT} {_COPULA}",
        f"{_LAST_OF_ALL} {_LAST_AFTER_VOWEL} {_COPULA} {_COPULA_AFTER_VOWEL}",
    )
    return re.compile(f"(?:{_one_of(case)}{more}{{0,2}}{end}?|{_one_of(f'{_LAST_OF_ALL} {last} {copula}')})")


_CONSONANT = _pattern(
    f"{_CASE} {_CASE_AFTER_CONSONANT} {_EURO}", f"{_LAST_AFTER_CONSONANT} {_TOPICS} {_TOPICS_EURO}", _COPULA
)
_AFTER_RIEUL = _pattern(
    f"{_CASE} {_CASE_AFTER_CONSONANT} {_RO}", f"{_LAST_AFTER_CONSONANT} {_TOPICS} {_TOPICS_RO}", _COPULA
)
_VOWEL = _pattern(
    f"{_CASE} {_CASE_AFTER_VOWEL} {_RO}",
    f"{_LAST_AFTER_VOWEL} {_TOPICS} {_TOPICS_RO}",
    f"{_COPULA} {_COPULA_AFTER_VOWEL}",
)
_UNKNOWN = _pattern(
    f"{_CASE} {_CASE_AFTER_CONSONANT} {_CASE_AFTER_VOWEL} {_EURO} {_RO}",
    f"{_LAST_AFTER_CONSONANT} {_LAST_AFTER_VOWEL} {_TOPICS} {_TOPICS_EURO} {_TOPICS_RO}",
    f"{_COPULA} {_COPULA_AFTER_VOWEL}",
)
_PLURAL = "들"


def is_josa(rest: str, last: str) -> bool:
    """Whether `rest`, Hangul behind a noun that ends with the character `last`, is particles (들 before them, too).

    Behind a letter or digit, whose sound is not known, both forms of a particle will do.
    """
    return len(rest) <= LONGEST and _is_josa(rest, last)


@lru_cache(maxsize=1 << 18)
def _is_josa(rest: str, last: str) -> bool:
    if rest.startswith(_PLURAL):
        return rest == _PLURAL or _is_josa(rest[len(_PLURAL) :], _PLURAL)
    return _fitting(last).fullmatch(rest) is not None


def _fitting(last: str) -> re.Pattern[str]:
    code = ord(last)
    if not _FIRST <= code <= _LAST:
        return _UNKNOWN
    final = (code - _FIRST) % _FINALS
    return _VOWEL if final == 0 else _AFTER_RIEUL if final == _RIEUL else _CONSONANT
