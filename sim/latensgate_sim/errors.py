"""Errors as AWS answers them; each service gives them its own wire form."""

from __future__ import annotations


class AWSError(Exception):
    """An error answer.

    Attributes:
        status: HTTP status.
        code: For example ``ThrottlingException``.
        message: Text, or None where AWS sends none.
    """

    def __init__(self, status: int, code: str, message: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class CutConnectionError(Exception):
    """The connection is to be torn down without an orderly end."""
