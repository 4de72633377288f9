"""Names of members, creators and sites: one rule, and the sentence that states it."""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import Meta

ID_LENGTH_MAX: Final = 64
#: Visible ASCII, so that no id hides a blank, a line break or a look-alike character.
IDENTIFIER: Final = re.compile(rf"[\x21-\x7e]{{1,{ID_LENGTH_MAX}}}")
IDENTIFIER_RULE: Final = f"1 to {ID_LENGTH_MAX} visible ASCII characters"
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

#: The type of such fields when decoding. It checks the length alone: a pattern costs msgspec 0.4 us a field.
Name = Annotated[str, Meta(min_length=1, max_length=ID_LENGTH_MAX)]


def identifier(field: str, value: str) -> str:
    """Return a valid member, creator or site id. Raises ``ValueError`` with a message for users."""
    if IDENTIFIER.fullmatch(value) is None:
        wrong = next((char for char in value if not "!" <= char <= "~"), "")
        which = f": U+{ord(wrong):04X} is not allowed" if wrong else ""
        raise ValueError(f"{field} {value[: ID_LENGTH_MAX + 1]!r} is not {IDENTIFIER_RULE}{which}")
    return value
