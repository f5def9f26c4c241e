"""A local page to play with: what trained models and tokenizers do with a text that you type."""

from korbert.demo.playground import Cutter, Example, Limits, Playground, Question, read_examples
from korbert.demo.refusal import Refusal
from korbert.demo.server import DemoServer, open_server

__all__ = [
    "Cutter",
    "DemoServer",
    "Example",
    "Limits",
    "Playground",
    "Question",
    "Refusal",
    "open_server",
    "read_examples",
]
