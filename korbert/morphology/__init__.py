"""Morphological analysers behind one interface: morphemes with exact spans of the analysed text.

MeCab-ko and Kiwi report where a morpheme stands. KoNLPy's taggers do not, and sometimes return forms that are not in
the text (하+았 for 했), so their output is aligned to the text and what cannot be found is counted, never guessed.
Every analyser is imported and started at its first use: a JVM must not exist before a fork.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

from korbert.errors import check_known
from korbert.morphology.base import PARTICLE_TAG, Analyser, Morpheme, RememberingAnalyser
from korbert.morphology.kiwi import KiwiAnalyser
from korbert.morphology.konlpy import (
    HannanumAnalyser,
    KkmaAnalyser,
    KomoranAnalyser,
    KonlpyMecabAnalyser,
    OktAnalyser,
    align_morphemes,
)
from korbert.morphology.mecab import MecabAnalyser, MecabKoAnalyser

__all__ = [
    "ANALYSERS",
    "PARTICLE_TAG",
    "Analyser",
    "MecabAnalyser",
    "MecabKoAnalyser",
    "Morpheme",
    "RememberingAnalyser",
    "align_morphemes",
    "make_analyser",
]

ANALYSERS: dict[str, type[Analyser]] = {
    cls.name: cls
    for cls in (
        MecabAnalyser,
        MecabKoAnalyser,
        KiwiAnalyser,
        OktAnalyser,
        HannanumAnalyser,
        KomoranAnalyser,
        KkmaAnalyser,
        KonlpyMecabAnalyser,
    )
}


def make_analyser(name: str, key: str = "entities.annotator", exact: bool = False) -> Analyser:
    """Return the analyser of that name, not yet started. Raises ConfigError naming `key` for an unknown one.

    Where there is no python-mecab-ko, but mecab-ko or a Python that only that is made for, "mecab" is "mecab_ko", and
    the analyser's name says so. exact: it never is, because something was made with the analyser of that very name.
    """
    check_known(key, name, ANALYSERS)
    if name == MecabAnalyser.name and not exact and not _has_module(MecabAnalyser.package):
        newer = sys.version_info >= (3, 13)
        return MecabKoAnalyser() if newer or _has_module(MecabKoAnalyser.package) else MecabAnalyser()
    return ANALYSERS[name]()


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
