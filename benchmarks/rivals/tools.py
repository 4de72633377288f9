"""What the rivals are made of, built once into .bench/rivals by their lock files.

Whatever a machine lacks is a ``Missing`` whose message says what to install; nothing else of the project needs it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.stack.embedded import ROOT

SOURCES: Final = Path(__file__).parent
BUILT: Final = ROOT / ".bench" / "rivals"
#: Bytewax has wheels for no newer one.
BYTEWAX_PYTHONS: Final = ("3.11", "3.12")
SPLIT_PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")


class Missing(Exception):
    """A rival cannot be had on this machine; the message says what to install."""


def collector(*, fetch: bool) -> Path:
    """The Go collector's program. Raises ``Missing``."""
    source = SOURCES / "collector_go"

    def build(folder: Path) -> None:
        needed = {"go": "Go 1.26 or newer"}
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        _run(needed, ["go", "build", "-o", str(folder / "collector"), "."], source, environment)

    return _built("collector", sorted(source.iterdir()), build, fetch=fetch) / "collector"


def kafka_streams(*, fetch: bool) -> str:
    """The class path of the Kafka Streams program. Raises ``Missing``."""
    source = SOURCES / "kafka_streams"

    def build(folder: Path) -> None:
        needed = {"mvn": "Maven", "javac": "a JDK, 17 or newer"}
        command = ["mvn", "-q", "-B", "-f", "pom.xml", "dependency:copy-dependencies"]
        _run(needed, [*command, f"-DoutputDirectory={folder / 'libs'}"], source)
        _run(needed, ["javac", "-cp", f"{folder / 'libs'}/*", "-d", str(folder), "Counting.java"], source)

    folder = _built("kafka_streams", sorted(source.iterdir()), build, fetch=fetch)
    return f"{folder}:{folder / 'libs'}/*"


def python(name: str, versions: Sequence[str], *, fetch: bool) -> Path:
    """The Python of a virtual environment with what NAME.lock says. Raises ``Missing``."""
    lock = SOURCES / f"{name}.lock"

    def build(folder: Path) -> None:
        interpreter = next((found for version in versions if (found := _interpreter(version))), None)
        if interpreter is None:
            raise Missing(f"install Python {' or '.join(versions)}")
        _run({}, [interpreter, "-m", "venv", "--clear", str(folder)], SOURCES)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        _run({}, [str(folder / "bin/python"), *install, "--require-hashes", "--requirement", str(lock)], SOURCES)

    return _built(name, [lock], build, fetch=fetch) / "bin" / "python"


def _interpreter(version: str) -> str | None:
    """A Python of that version that starts: some version managers leave a name on the PATH for what is not there."""
    found = shutil.which(f"python{version}")
    works = found and subprocess.run([found, "-m", "venv", "--help"], capture_output=True, check=False)  # noqa: S603 - from the PATH
    return found if works and works.returncode == 0 else None


def _built(name: str, sources: Sequence[Path], build: Callable[[Path], None], *, fetch: bool) -> Path:
    """The folder in which a rival is built, built anew after its sources changed."""
    folder = BUILT / name
    stamp = folder / "sources.sha256"
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    if not fetch:
        raise Missing("run `flattr bench rivals` without --no-fetch once, to build it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build(folder)
    stamp.write_text(digest)
    return folder


def _run(
    needed: Mapping[str, str], command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """One step of a build."""
    for tool, what in needed.items():
        if shutil.which(tool) is None:
            raise Missing(f"install {what}: there is no `{tool}` on the PATH")
    done = subprocess.run(  # noqa: S603 - our own words
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"`{' '.join(command[:4])}` failed: {(done.stderr or done.stdout)[-1000:]}")
