"""`make wheels`: whether every locked package has a wheel for each Python and machine that the README promises.

Asks the package index and installs nothing. Resolves as pip does, markers and hashes included, so that a package needed
only on some Python or machine, and missing in the lock, is found as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = ("requirements.lock", "deploy/requirements.lock")
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
LINUX_ARM: Final = "aarch64-manylinux_2_28"
#: By uv's names: Linux with glibc 2.28 (Debian 10, RHEL 8) or later, macOS 13 or later.
MACHINES: Final = ("x86_64-manylinux_2_28", LINUX_ARM, "aarch64-apple-darwin")
#: What has no wheel where, and what an installation does there instead: pip builds it from the locked source.
FROM_SOURCE: Final = {
    ("faust-streaming", LINUX_ARM): "pip builds it, in plain Python where there is no C compiler",
    ("hdrhistogram", LINUX_ARM): "pip builds it, and needs a C compiler and Python's headers (gcc, python3-dev)",
}
_LACKS: Final = re.compile(r"([a-z0-9.-]+)(?:\{[^}]*\})?==\S+ has no (?:usable )?wheels")


def install(lock: str, python: str, machine: str, from_source: Collection[str] = ()) -> str:
    """What an installation from wheels alone says of the first package that it cannot have; empty when it has all."""
    names = re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), flags=re.MULTILINE)
    binary = [argument for name in names if name not in from_source for argument in ("--only-binary", name)]
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory() as target:
        done = subprocess.run(
            [
                uv, "pip", "install", "--dry-run", "--no-progress", "--require-hashes",
                "--target", target, "--python-version", python, "--python-platform", machine,
                *binary, "--requirement", lock,
            ],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.stderr.strip() if done.returncode else ""


def lines(lock: str, python: str, machine: str) -> Iterator[tuple[bool, str]]:
    """Whether one installation is as promised, and what to say of it."""
    where = f"{lock}, Python {python}, {machine}"
    missing: list[str] = []
    while trouble := install(lock, python, machine, missing):
        # uv breaks its lines and names one package at a time.
        found = _LACKS.search(re.sub(r"\s+", " ", trouble))
        if found is None or found[1] in missing:
            yield False, f"{where}: {trouble}"
            return
        missing.append(found[1])
    expected = {name: why for (name, there), why in FROM_SOURCE.items() if there == machine}
    for name in missing:
        yield name in expected, f"{where}: no wheel of {name}: {expected.get(name, 'nobody expects that')}"
    for name in expected.keys() - set(missing):
        yield False, f"{where}: {name} has a wheel by now: take it out of FROM_SOURCE"
    if not missing:
        yield True, f"{where}: a wheel of everything"


def main() -> int:
    """Print a line for each installation; 1 when one of them is not as promised."""
    good = True
    for lock in LOCKS:
        for python in PYTHONS:
            for machine in MACHINES:
                for fine, line in lines(lock, python, machine):
                    good &= fine
                    sys.stdout.write(f"{'ok' if fine else 'WRONG'}  {line}\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
