"""Where an archive's files are: a folder of this machine, or one of a store that speaks S3."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pyarrow import fs

from ingest.runtime.setting_error import SettingError
from warehouse.storage.settings import BackupSettings

_S3: Final = "s3:"
_PIECE_BYTES: Final = 1 << 20


class Place:
    """Named files, in a folder that is made with the first of them. Methods raise ``OSError``."""

    def __init__(self, text: str, settings: BackupSettings) -> None:
        """``text`` is a path, or s3:https://HOST/BUCKET/FOLDER with the key of backups. Raises ``SettingError``."""
        self._folder: Path | None = None
        if not text.startswith(_S3):
            self._folder = Path(text).absolute()
            self.text = self._root = str(self._folder)
            self._files: Any = fs.LocalFileSystem()
            return
        url = urlsplit(text.removeprefix(_S3).rstrip("/"))
        if not url.hostname or not url.path.strip("/"):
            raise SettingError(f"{text!r} is no place for an archive: a folder, or s3:https://HOST/BUCKET/FOLDER")
        key_id, secret = (one.get_secret_value() for one in (settings.backup_s3_key_id, settings.backup_s3_secret))
        keys = {"access_key": key_id, "secret_key": secret} if key_id else {}
        self._files = fs.S3FileSystem(endpoint_override=url.netloc, scheme=url.scheme, **keys)
        self.text, self._root = text.rstrip("/"), url.path.strip("/")

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._files.get_file_info(f"{self._root}/{name}").type == fs.FileType.File)

    def delete(self, name: str) -> None:
        """Delete a file if there is one."""
        if self.has(name):
            self._files.delete_file(f"{self._root}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A file to be written from its beginning; it is on disk, or in the store, at the end."""
        if self._folder is not None:
            # What members did is nobody's but the operator's.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._files.open_output_stream(f"{self._root}/{name}") as file:
            yield file
        if self._folder is not None:
            for path in (self._folder / name, self._folder):
                _on_disk(path)

    def reading(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """A file to be read, as pyarrow has it."""
        return self._files.open_input_file(f"{self._root}/{name}")

    def text_of(self, name: str, bytes_max: int) -> str:
        """The beginning of a text file. Raises ``ValueError`` if it is no UTF-8."""
        with self.reading(name) as file:
            return str(file.read(bytes_max).decode())

    def sha256(self, name: str) -> tuple[str, int]:
        """A file's hash, in hexadecimal, and its size in bytes."""
        digest, size = hashlib.sha256(), 0
        with self.reading(name) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        return digest.hexdigest(), size


def _on_disk(path: Path) -> None:
    """Have the disk take what was written: rows are about to leave for it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
