"""Boundaries against an analyser whose morphemes are written down."""

from __future__ import annotations

import unicodedata

import pytest

from korbert.comparison.linguistics import boundary_agreement, consistency, entity_cuts, inner_places
from korbert.morphology import Analyser, Morpheme, make_analyser
from korbert.text import AnnotatedText, Span
from korbert.tokenizers import CharacterTokenizer, Pretokenizer, WordTokenizer


class Written(Analyser):
    """Morphemes of a text as it is written: 세종/NNP 은/JX."""

    name, package, install = "written", "none", "none"

    def __init__(self, *analyses: str) -> None:
        super().__init__()
        self.analyses = {}
        for analysis in analyses:
            text, morphemes = "", []
            for word in analysis.split("  "):
                text += " " * bool(text)
                for part in word.split():
                    form, tag = part.split("/")
                    morphemes.append(Morpheme(len(text), len(text) + len(form), tag))
                    text += form
            self.analyses[text] = morphemes

    def _start(self, module: object) -> None: ...

    def parse(self, text: str) -> object:
        return self.analyses[text]

    def _analyse(self, text: str) -> list[Morpheme]:
        return self.analyses[text]


WRITTEN = Written("세종/NNP 은/JX  글자/NNG 를/JKO  만들/VV 었/EP 다/EF")
TEXT = "세종은 글자를 만들었다"


def test_inner_places() -> None:
    assert inner_places("가나 다", range(-1, 9)) == {1}


def test_agreement_by_hand() -> None:
    characters = CharacterTokenizer.train([TEXT], 50)
    found = boundary_agreement([TEXT], characters, WRITTEN)
    # Cuts inside words: 2 + 2 + 3; of them 1 + 1 + 2 are between morphemes.
    assert (found.precision, found.recall, found.josa) == (4 / 7, 1.0, 1.0)
    assert found.f1 == pytest.approx(2 * 4 / (7 + 4))
    assert (found.places, found.particles) == (4, 2)
    words = boundary_agreement([TEXT], WordTokenizer.train([TEXT], 50), WRITTEN)
    assert (words.recall, words.josa, words.f1) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="no morpheme boundary"):
        boundary_agreement(["글자"], characters, Written("글자/NNG"))


def test_particles_of_every_set_of_tags() -> None:
    """Hannanum's have one letter; where an analyser finds none, there is no share of them."""
    characters = CharacterTokenizer.train([TEXT], 50)
    for tag in ("J", "JKS", "JX", "Josa"):
        assert boundary_agreement(["세종은 글자"], characters, Written(f"세종/N 은/{tag}  글자/N")).particles == 1
    assert boundary_agreement(["세종은 글자"], characters, Written("세종/N 은/E  글자/N")).josa is None


def test_an_analyser_agrees_with_itself() -> None:
    tokenizer = WordTokenizer.train([TEXT], 50, pretokenizer=Pretokenizer("mecab"))
    found = boundary_agreement([TEXT, "서울에서는 비가 왔다."], tokenizer, make_analyser("mecab"))
    assert (found.precision, found.recall, found.f1, found.josa) == (1.0, 1.0, 1.0, 1.0)


def test_decomposed_text_agrees_as_much() -> None:
    text = "서울에서는 비가 왔다. 학교에 갔다."
    tokenizer = CharacterTokenizer.train([text], 50)
    decomposed = unicodedata.normalize("NFD", text)
    assert boundary_agreement([decomposed], tokenizer, make_analyser("mecab")) == boundary_agreement(
        [text], tokenizer, make_analyser("mecab")
    )
    words = ["학교에", "학교는", "집에"]
    characters = CharacterTokenizer.train(words, 50)
    found = consistency([unicodedata.normalize("NFD", word) for word in words], characters, make_analyser("mecab"))
    assert found == consistency(words, characters, make_analyser("mecab"))


def test_entities_by_hand() -> None:
    text = AnnotatedText(TEXT, (Span(0, 2), Span(4, 7)))
    inside = AnnotatedText(TEXT, (Span(5, 6),))
    found = entity_cuts([text, inside, AnnotatedText("없다")], WordTokenizer.train([TEXT], 50))
    assert (found.whole, found.torn_start, found.torn_end, found.entities) == (1 / 3, 1 / 3, 2 / 3, 3)
    assert entity_cuts([text], CharacterTokenizer.train([TEXT], 50)).whole == 1.0
    jamo = CharacterTokenizer.train([TEXT], 50, pretokenizer=Pretokenizer(symbols="jamo"))
    assert entity_cuts([text], jamo).whole == 1.0
    with pytest.raises(ValueError, match="no entity"):
        entity_cuts([AnnotatedText("없다")], jamo)


def test_consistency_by_hand() -> None:
    words = ["학교에", "학교는", "집에"]
    analyser = Written("학교/NNG 에/JKB", "학교/NNG 는/JX", "집/NNG 에/JKB")
    # Pairs that share a morpheme: 학교에 and 학교는, 학교에 and 집에.
    characters = consistency(words, CharacterTokenizer.train(words, 50), analyser)
    assert (characters.precision, characters.recall, characters.words) == (1.0, 1.0, 3)
    assert consistency(words, WordTokenizer.train(words, 50), analyser).recall == 0.0
    tokenizer = WordTokenizer.train(words, 50, pretokenizer=Pretokenizer("mecab"))
    morphemes = consistency(words, tokenizer, make_analyser("mecab"))
    assert (morphemes.precision, morphemes.recall, morphemes.f1) == (1.0, 1.0, 1.0)
