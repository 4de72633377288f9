"""What goes wrong with files, addresses and ports is a sentence, never a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from deploy.cli.failures import sentence
from deploy.cli.main import main
from deploy.cli.output import cells, write_out
from deploy.cli.resend import Door
from deploy.errors import CommandFailed
from deploy.stack.embedded import ROOT
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import keygen
from tests.support.serving import serving
from warehouse.storage.client import Warehouse


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


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_socket_takes_the_place_of_a_stream_that_the_caller_closed(redirected: str) -> None:
    check = (
        "from deploy.cli.terminal import open_standard_streams; import socket, sys; open_standard_streams();"
        "sys.exit(0 if socket.socket().fileno() > 2 and not sys.stdin.isatty() else 3)"
    )
    done = subprocess.run(["sh", "-c", f"'{sys.executable}' -c '{check}' {redirected}"], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed_are_no_traceback(redirected: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    keys = tmp_path / "keys.json"
    command = f"'{sys.executable}' -m deploy token keygen --keys '{keys}' 2>'{told}' {redirected}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, check=False)
    assert (done.returncode, keys.exists(), told.read_text()) == (0, True, "")


def test_a_reader_who_leaves_is_no_traceback() -> None:
    write = "import sys; from deploy.cli.output import write_out; write_out(None, b'x' * 10)"
    typed = f"import typer; app = typer.Typer(); app.command()(lambda: exec({write!r})); app()"
    with subprocess.Popen(
        [sys.executable, "-c", typed], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_names_in_a_sentence_are_no_pictures(told: Told, warehouse: Warehouse) -> None:
    """Between colons rich draws: `clicks:-1:5` came out as a thumb."""
    assert "id clicks:-1:5" in told.by("rejected", "replay", "clicks:-1:5", "--warehouse", warehouse.url)


def test_cells_show_what_is_not_printable() -> None:
    assert [cell.plain for cell in cells("a\x1b[2J\n", "[/b]")] == ["a\\x1b[2J\\n", "[/b]"]


def test_no_token_lives_for_ever(told: Told) -> None:
    for days in ("inf", "1e300", "36501"):
        assert "36500" in told.by("token", "issue", "mia", "--days", days, code=2)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ingest.example",
        "ftp://a",
        "javascript:alert(1)",
        "https://",
        "http://:80",
        "http://a:b",
        'http://a"b',
        "http://a b",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_before_anything_is_sent(address: str, told: Told) -> None:
    good = ("--creator", "ada", "--ingest", "https://a.example", "--counters", "https://b.example:8002/x")
    for words in (
        ("load", "--url", "http://127.0.0.1:1", "--url", address),
        ("rejected", "replay", "--reason", "late", "--url", address),
        ("spool", "recover", __file__, "--url", address),
        *(("sites", "snippet", *good, option, address) for option in ("--ingest", "--counters", "--join")),
    ):
        assert "is no address" in told.by(*words, code=2)


@pytest.mark.parametrize("host", ["", " ", "a/b", "http://a"])
def test_what_is_no_address_to_listen_on_is_refused(host: str, told: Told) -> None:
    for command in (("verify",), ("quarantine", "scan")):
        assert "to listen on" in told.by(*command, "--every", "5", "--port", "0", "--host", host, code=2)


@pytest.mark.parametrize("limit", ["--creator", "--member", "--site"])
def test_an_empty_limit_is_not_no_limit(limit: str, told: Told, tmp_path: Path) -> None:
    """A variable that was not set made a key for everything, and a flag on a creator of one on a member and creator."""
    file = tmp_path / "keys.json"
    assert "is empty" in told.by("keys", "issue", "anna", "finance", "--file", str(file), limit, "", code=2)
    assert not file.exists()
    flag = ("quarantine", "flag", "2026-11", "--reason", "a ring")
    assert "is empty" in told.by(*flag, "--creator", "ada", limit, " ", code=2)


@pytest.mark.parametrize("name", ["", " ", "a\nb"])
def test_a_key_is_somebodys(name: str, told: Told, tmp_path: Path) -> None:
    assert "give a name" in told.by("keys", "issue", name, "operator", "--file", str(tmp_path / "keys.json"))
