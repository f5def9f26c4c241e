"""The few types of entities that all corpora and annotators have in common."""

from __future__ import annotations

# The first is for whatever has no type, or none of the others.
TYPES = ("entity", "person", "place", "organisation", "time", "number")
# Those of KMOU (PER LOC ORG POH DAT TIM DUR MNY PNT NOH), KLUE (PS LC OG DT TI QT), MeCab-ko's lists, and our own.
COMMON_TYPES = {
    "PER": "person", "PS": "person", "LOC": "place", "LC": "place", "ORG": "organisation", "OG": "organisation",
    "DAT": "time", "TIM": "time", "DUR": "time", "DT": "time", "TI": "time",
    "MNY": "number", "PNT": "number", "NOH": "number", "QT": "number",
}  # fmt: skip
_IDS = {label: 1 + TYPES.index(kind) for label, kind in COMMON_TYPES.items()}


def type_id(label: str) -> int:
    """The entity id of a label, 1 for one that is not known; 0 is for what is no entity."""
    return _IDS.get(label, 1)
