"""How the list of erasures names a member, for code that reads ids from outside the warehouse (see erasure/)."""

from __future__ import annotations

import hashlib


def member_sha256(member_id: str) -> str:
    """The SHA-256 of a member's id in hexadecimal, under which the list of erasures knows the member."""
    return hashlib.sha256(member_id.encode()).hexdigest()
