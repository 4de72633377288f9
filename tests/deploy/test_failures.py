"""What goes wrong with files, addresses and ports is a sentence, never a traceback."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from deploy.cli.failures import sentence
from deploy.cli.main import main
from deploy.cli.output import write_out
from deploy.cli.resend import Door
from deploy.errors import CommandFailed
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import keygen
from tests.support.serving import serving


class Told:
    """Runs a command in this process and returns what it says to the one who called it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def by(self, *words: str, code: int = 1) -> str:
        self._monkeypatch.setattr(sys, "argv", ["flattr", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        return " ".join(self._capsys.readouterr().err.split())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(monkeypatch, capsys)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"9" * 10_000, b'{"a": 1', b"null"])
def test_a_file_of_keys_that_is_none_is_named(content: bytes, told: Told, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for words in (
        ("token", "keygen", "--keys"),
        ("token", "issue", "mia", "--keys"),
        ("keys", "list", "--file"),
        ("keys", "issue", "n", "operator", "--file"),
    ):
        file.write_bytes(content)
        assert str(file) in told.by(*words, str(file))
        assert file.read_bytes() == content


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_named(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert str(tmp_path) in told.by("token", "keygen", "--keys", str(tmp_path))
    assert str(file) in told.by("secrets", "init", "--folder", str(file))
    assert str(file) in told.by("secrets", "init", "--folder", str(file / "s"))


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "out.csv"):
        with pytest.raises(OSError) as failed:  # noqa: PT011 - which one is the system's choice
            write_out(path, b"x")
        assert str(path) in sentence(failed.value)


def test_an_error_of_the_system_that_names_nothing_is_a_defect_of_ours() -> None:
    with pytest.raises(OSError, match="Bad file"):
        sentence(OSError(errno.EBADF, "Bad file descriptor"))


@pytest.mark.parametrize("port", ["65536", "99999999999999999999"])
def test_a_port_that_is_none_is_refused(port: str, told: Told) -> None:
    for words in (("verify", "--every", "1"), ("quarantine", "scan", "--every", "1")):
        assert "65535" in told.by(*words, "--port", port, code=2)
    assert "65535" in told.by("up", "--api-port", port, code=2)


@pytest.mark.parametrize("url", ["", "ingest:8001", "ftp://a", "http://", "http://[::1", "http://a:x", "http://a:0"])
def test_an_address_of_ingest_that_is_none_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="is no address of ingest"):
        Door(url, tmp_path / "keys.json", audience="flattr", clock=system_clock)


def test_a_server_that_is_no_ingest_has_no_reasons_of_ours(tmp_path: Path) -> None:
    keygen(tmp_path / "keys.json", algorithm="HS256", kid="k")
    with serving(FastAPI()) as url:
        door = Door(url, tmp_path / "keys.json", audience="flattr", clock=system_clock)
        outcome = door.send("mia", {})
    assert (outcome.status, outcome.reason) == (404, "Not Found")


def test_a_segment_that_the_disk_does_not_give_is_named(told: Told) -> None:
    # Reads of it fail as those of a bad disk do: with no name in the error.
    assert "/proc/self/mem cannot be read" in told.by("spool", "recover", "/proc/self/mem")
