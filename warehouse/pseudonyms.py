"""Who was erased, for those who read ids from outside the warehouse: see erasure.py."""

from __future__ import annotations

import hashlib


def member_sha256(member_id: str) -> str:
    """The hash under which the list knows a member, hexadecimal."""
    return hashlib.sha256(member_id.encode()).hexdigest()
