"""Where entities come from."""

from korbert.entities.base import EntityAnnotator, NoEntities
from korbert.entities.morphology import ProperNounAnnotator

__all__ = ["EntityAnnotator", "NoEntities", "ProperNounAnnotator", "make_annotator"]


def make_annotator(name: str) -> EntityAnnotator:
    """Return the annotator that `entities.annotator` names: "none" or a morphological analyser."""
    return NoEntities() if name == "none" else ProperNounAnnotator(name)
