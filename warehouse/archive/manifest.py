"""What an archive consists of: canonical JSON, written last. The warehouse has its SHA-256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from ingest.contract.month import month_text
from warehouse.archive.place import Place
from warehouse.archive.tables import TABLES, Columns
from warehouse.payout.errors import PayoutRefused

NAME: Final = "manifest.json"
PROOF: Final = "proof.json"
_FORMAT: Final = 1
_BYTES_MAX: Final = 1 << 20


class ArchiveRefused(PayoutRefused):
    """An archive is not what it should be, or cannot be made; the message says what to do."""


@dataclass(frozen=True)
class File:
    """A table's file: its columns with their types, rows and digest (``tables.py``), size and SHA-256."""

    columns: Columns
    rows: int
    digest: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """An archive's month, its seal, what wrote it, and its files by table."""

    month: int
    seal: str
    version: str
    migration: int
    files: dict[str, File]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files.values())

    def text(self) -> str:
        """The canonical text."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True, indent=1) + "\n"

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse a manifest. Raises ``ArchiveRefused``."""
        try:
            found: dict[str, Any] = json.loads(text)
            is_known = found.pop("format") == _FORMAT and set(found["files"]) == set(TABLES)
            files = {
                name: File(**{**file, "columns": [(column, kind) for column, kind in file["columns"]]})
                for name, file in found.pop("files").items()
            }
            made = cls(**found, files=files)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            is_known = False
        if not is_known:
            raise ArchiveRefused(f"{NAME} is no manifest of an archive that this version of flattr knows.")
        return made


def sha256(text: str) -> str:
    """The hash of a manifest's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read(place: Place, month: int, seal: str, expected_sha256: str = "") -> Manifest:
    """The manifest in a place, if it is that of this sealed month and, where a hash is given, of this hash.

    Raises ``ArchiveRefused``.
    """
    if not place.has(NAME):
        raise ArchiveRefused(
            f"{place.text} has no {NAME}: it is no archive of {month_text(month)}, or was not copied to its end."
        )
    try:
        text = place.text_of(NAME, _BYTES_MAX)
    except ValueError:
        text = ""
    found = Manifest.of(text)
    if found.month != month or found.seal != seal:
        raise ArchiveRefused(
            f"{place.text} is the archive of another month or of another installation: its seal is not that of "
            f"{month_text(month)} here."
        )
    if expected_sha256 and sha256(text) != expected_sha256:
        raise ArchiveRefused(
            f"{NAME} in {place.text} is not what the archive of {month_text(month)} was made with: it was changed, or "
            "belongs to an earlier archive of this month. Take an intact copy."
        )
    return found
