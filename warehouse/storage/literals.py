"""Values that the driver cannot put into the text of a statement by itself."""

from __future__ import annotations


class FixedBytes:
    """A FixedString, given in hexadecimal digits. Raises ``ValueError`` for anything else.

    The driver writes what it does not know as ``str`` says.
    """

    __slots__ = ("_literal",)

    def __init__(self, digits: str) -> None:
        self._literal = "'" + "".join(f"\\x{byte:02x}" for byte in bytes.fromhex(digits)) + "'"

    def __str__(self) -> str:
        return self._literal
