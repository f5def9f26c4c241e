"""A request that is not answered, and why."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An HTTP status, a code that the page has words for in its languages, an English message, and figures."""

    def __init__(self, status: int, code: str, message: str, **about: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.about = status, code, message, about

    def as_json(self) -> dict[str, Any]:
        """What is sent."""
        return {"error": {"code": self.code, "message": self.message, **self.about}}
