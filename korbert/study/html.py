"""Pages that open from a file: templates of this folder and of others, everything that is filled in escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from korbert.errors import KorbertError

_SHARED = Path(__file__).parent  # style.html and sorting.html, for every page


def fill_page(template: Path, **values: Any) -> str:
    """The page of a template with these values; its filter `markup` leaves markup of our own making as it is.

    Raises KorbertError where jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader
        from markupsafe import Markup
    except ImportError:
        raise KorbertError("a page needs jinja2: pip install -e '.[report]'") from None
    loader = FileSystemLoader([template.parent, _SHARED])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["markup"] = Markup
    return environment.get_template(template.name).render(**values)
