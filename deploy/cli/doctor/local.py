"""What this machine has: settings, files of keys, folders and their disks."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from deploy.cli.doctor.findings import Finding, ok, warning, wrong
from deploy.cli.doctor.tls import validity
from deploy.cli.failures import sentence
from deploy.cli.variables import unknown as unknown_variables
from deploy.provision.settings_table import READERS, settings
from ingest.admission.caller import read_sites
from ingest.runtime.aliases import read_aliases
from ingest.runtime.tokens import read_keys
from ingest.runtime.watched_file import FileError
from ingest.settings import IngestSettings
from warehouse.api.sessions import read_secret
from warehouse.keys import KeysError
from warehouse.keys import load as load_api_keys

#: A folder with less room than this is full.
_ROOM_MIN_BYTES: Final = 64 << 20
_PROBE_BYTES: Final = 4096
#: Files that a setting names, and what reads them whole; those that give access are nobody else's to read.
_FILES: Final[dict[str, tuple[Callable[[Path], object], bool]]] = {
    "FLATTR_TOKEN_KEYS": (read_keys, True),
    "FLATTR_API_KEYS": (load_api_keys, False),
    "FLATTR_API_SESSION_SECRET": (read_secret, True),
    "FLATTR_INGEST_SITES_FILE": (read_sites, False),
    "FLATTR_INGEST_ALIASES_FILE": (read_aliases, False),
}
_AUTHORITIES: Final = "FLATTR_BROKER_CA_FILE"


def look_at_settings(environment: Mapping[str, str], command: Callable[[], Any]) -> Iterator[Finding]:
    """Names that nothing reads, and values that their readers refuse. Values are not repeated: some are secrets."""
    about = "settings"
    sound = True
    for text in unknown_variables(environment, command):
        sound = False
        yield warning(about, text, "correct the name, or unset it")
    refused = dict.fromkeys(said for models in READERS.values() for model in models for said in _refused(model))
    for said in refused:
        yield wrong(about, said, "correct it: docs/settings.md says what it may be")
    clock = environment.get("FLATTR_CLOCK", "system")
    if clock != "system":
        sound = False
        yield warning(about, f"FLATTR_CLOCK={clock}: services live at another time", "unset it, unless this is a trial")
    if sound and not refused:
        given = sum(setting.name in environment for setting in settings())
        yield ok(about, f"{given} are set, all of them known and valid")


def _refused(model: type[BaseSettings]) -> Iterator[str]:
    try:
        model()
    except (ValidationError, SettingsError) as error:
        yield from sentence(error).split("; ")


def look_at_files(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Files that settings name: there, readable, whole, and secret if they have to be."""
    for name, (read, is_secret) in _FILES.items():
        if path := environment.get(name):
            yield _file(name, Path(path), read, is_secret=is_secret)
    if path := environment.get(_AUTHORITIES):
        yield from look_at_authorities(_AUTHORITIES, Path(path))


def _file(name: str, path: Path, read: Callable[[Path], object], *, is_secret: bool) -> Finding:
    about = f"file {name}"
    try:
        read(path)
        mode = path.stat().st_mode
    except (FileError, KeysError) as error:
        return wrong(about, str(error), "let the service's user read it, or make a new one")
    except OSError as error:
        return wrong(about, f"cannot read {path}: {error.strerror}", "let the service's user read it")
    if is_secret and mode & (stat.S_IROTH | stat.S_IWOTH):
        return warning(about, f"everybody on this machine may read {path}", f"chmod o-rwx {path}")
    return ok(about, f"{path} is readable and whole")


def look_at_authorities(about: str, path: Path) -> Iterator[Finding]:
    """Certificates of authorities in a file (PEM)."""
    try:
        found: Sequence[x509.Certificate] = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        yield wrong(f"file {about}", f"cannot read {path}: {error.strerror}", "let the service's user read it")
        return
    except ValueError:
        yield wrong(f"file {about}", f"{path} is no certificate (PEM)", "name the authority's certificate")
        return
    for one in found:
        yield validity(f"file {about}", one.subject.rfc4514_string(), one.not_valid_before_utc, one.not_valid_after_utc)


def look_at_folders(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Folders that services write to, and the room on their disks."""
    ingest = IngestSettings()
    if ingest.spool is None:
        yield warning(
            "folder FLATTR_INGEST_SPOOL", "not set: while Kafka is away, clicks are answered 503",
            "name a folder on a local disk that outlives the process",
        )  # fmt: skip
    else:
        yield _folder("FLATTR_INGEST_SPOOL", ingest.spool, ingest.workers * ingest.spool_max_bytes)
    spill = environment.get("FLATTR_STREAMS_SPILL_FOLDER")
    yield _folder("FLATTR_STREAMS_SPILL_FOLDER", Path(spill or tempfile.gettempdir()), 0)


def _folder(name: str, folder: Path, most_bytes: int) -> Finding:
    """Whether the folder, which services make if it is missing, takes ``most_bytes``."""
    about = f"folder {name}"
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        _write_a_little(there)
        free = shutil.disk_usage(there).free
    except OSError as error:
        return wrong(
            about,
            f"cannot write to {folder}: {error.strerror}",
            "make it, give it to the service's user, or free its disk",
        )
    if free < _ROOM_MIN_BYTES:
        return wrong(about, f"{_mb(free)} are free for {folder}: it is full", "free or enlarge its disk")
    if free < most_bytes:
        return warning(
            about, f"{folder} may grow to {_mb(most_bytes)}, and {_mb(free)} are free",
            "enlarge its disk, or lower FLATTR_INGEST_SPOOL_MAX_BYTES",
        )  # fmt: skip
    return ok(about, f"{folder} is writable, {_mb(free)} are free")


def _write_a_little(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.0f} MB"
