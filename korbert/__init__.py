"""korbert: Korean, entity-aware BERT."""

__version__ = "0.1.0"
