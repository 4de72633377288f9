"""docker-compose.yml without Docker: its services as processes, each in namespaces of its own.

A service of ours has exactly the command, environment, files, user, mounts, address and name that stand there. Of the
images of others there are Apache Kafka, the engine of chdb-core and Debian's programs, with the file's own settings;
only paths are this machine's, which is what ``path`` is for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.stack.embedded import ROOT
from tests.support.network import Network
from tests.support.waiting import wait_until

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
#: Waits for the network, mounts, and becomes the service. Folders that only an image has are made where nobody looks.
_INSIDE: Final = """
set -e
read -r
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/cache
mount --bind "$RESOLVER" /etc/resolv.conf
while IFS='|' read -r source target mode; do
  if [ -d "$source" ]; then mkdir -p "$target"; else mkdir -p "$(dirname "$target")"; touch "$target"; fi
  mount --bind "$source" "$target"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro "$target"; fi
done <<< "$MOUNTS"
cd "$FOLDER"
exec "$@"
"""
#: Reads what a folder above the code keeps from others, and writes nothing that the image's user may not.
_AS_USER: Final = (
    "setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--pdeathsig=KILL",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search",
)  # fmt: skip
_AS_ROOT: Final = ("setpriv", "--pdeathsig=KILL")


def env_file(path: Path) -> dict[str, str]:
    """An environment file, as compose reads it."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def seconds(text: str) -> float:
    """A duration as compose writes it."""
    return float(text.removesuffix("s"))


@dataclass
class Container:
    """A process that stands for a container."""

    service: str
    process: subprocess.Popen[str]
    address: str
    log: Path
    environment: Mapping[str, str]

    def inside(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        enter = ["nsenter", "--net", "--mount", "--target", str(self.process.pid), "--", *command]
        return subprocess.run(
            enter, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )  # fmt: skip

    def said(self, lines: int = 25) -> str:
        """The end of its log."""
        return "\n".join([f"{self.service}:", *self.log.read_text(errors="replace").splitlines()[-lines:]])


@dataclass
class Project:
    """The services that run. ``others`` makes the command of a service whose image is not ours."""

    folder: Path
    network: Network
    others: Mapping[str, Callable[[Project, dict[str, str]], list[str]]]
    running: dict[str, list[Container]] = field(default_factory=dict)
    #: The operator's, as `flattr secrets init` showed it.
    api_key: str = ""
    #: What an operator has added to the environment of all services of ours.
    settings: dict[str, str] = field(default_factory=dict)

    def path(self, source: str) -> Path:
        """Where a file of the project, or a volume, lies here."""
        if source.startswith("./"):
            here = source.removeprefix("./")
            return self.folder / here if here.startswith("deploy/secrets") else ROOT / here
        return self.folder / "volumes" / source

    def up(self, services: Sequence[str]) -> None:
        """Start services in the order given, each when what it depends on is as the file asks, and see all healthy."""
        for name in services:
            for other, asked in SERVICES[name].get("depends_on", {}).items():
                self._wait(other, asked["condition"])
            for _ in range(SERVICES[name].get("deploy", {}).get("replicas", 1)):
                self.start(name)
        for name in services:
            self._wait(name, "service_healthy" if "healthcheck" in SERVICES[name] else "service_completed_successfully")

    def scale(self, **numbers: int) -> None:
        """Have so many of each service, all healthy."""
        for name, number in numbers.items():
            while len(self.running[name]) < number:
                self.start(name)
        for name in numbers:
            self._wait(name, "service_healthy")

    def run(self, service: str, *arguments: str, volumes: Sequence[str] = (), **environment: str) -> str:
        """``docker compose run --rm SERVICE ARGUMENTS``: what it prints. Fails when it fails."""
        one = self.start(service, arguments, volumes=volumes, environment=environment)
        self.running[service].remove(one)
        self.network.leave(service, one.address)
        assert one.process.wait(60) == 0, f"{' '.join(arguments)}\n{one.said()}"
        return one.log.read_text()

    def start(
        self, name: str, arguments: Sequence[str] | None = None, *, volumes: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Container:  # fmt: skip
        """Start one container of a service."""
        service = SERVICES[name]
        given = self._environment(service) | dict(environment or {})
        ours = service["image"].startswith("flattr:")
        if ours:
            user = _AS_ROOT if service.get("user") == "root" else _AS_USER
            command = [*user, "--", sys.executable, "-m", "deploy", *(arguments or service["command"])]
        else:
            command = [*_AS_ROOT, "--", *self.others[name](self, given)]
        mounts = self._mounts(service, volumes) if ours else []
        image = (ROOT / "deploy/images/Dockerfile").read_text()
        (cache,) = re.findall(r"^ENV .*NUMBA_CACHE_DIR=(\S+)", image, re.MULTILINE)
        if ours:
            # A folder of the image, which one container leaves to the next here: they would all compile the same.
            mounts.append((self._of_image("cache"), cache, "rw"))
        number = len(list(self.folder.glob(f"{name}-*.log"))) + 1
        log = self.folder / f"{name}-{number}.log"
        system = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": "/nowhere",
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8", "NUMBA_CACHE_DIR": cache,
        }  # fmt: skip
        resolver = self.folder / "resolv.conf"
        resolver.write_text(f"nameserver {self.network.gateway}\noptions timeout:2 attempts:3\n")
        inside = {
            "RESOLVER": str(resolver), "FOLDER": service.get("working_dir", "/"),
            "MOUNTS": "\n".join("|".join(map(str, mount)) for mount in mounts) or f"{resolver}|/run/nothing|ro",
        }  # fmt: skip
        with log.open("w") as file:
            process = subprocess.Popen(
                ["unshare", "--net", "--mount", "bash", "-c", _INSIDE, name, *command],
                env={**system, **given, **inside}, stdin=subprocess.PIPE, stdout=file, stderr=file, text=True,
            )  # fmt: skip
        # Only now is it in a network of its own.
        mine = Path("/proc/thread-self/ns/net").readlink()
        wait_until(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != mine, f"{name} has its own network")
        address = self.network.join(process.pid, name)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
        container = Container(name, process, address, log, {**system, **given})
        self.running.setdefault(name, []).append(container)
        return container

    def stop(self, container: Container, *, timeout_s: float = 20) -> None:
        """SIGTERM, then SIGKILL."""
        container.process.terminate()
        try:
            container.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            container.process.kill()
            container.process.wait(10)

    def restart(self, *services: str) -> None:
        """Stop services and start them as the file, and ``settings``, have them now."""
        for name in services:
            for one in self.running.pop(name):
                self.network.leave(name, one.address)
                self.stop(one)
        self.up(services)

    def down(self) -> None:
        """End everything at once. What a service starts itself ends with it."""
        everything = [one for containers in self.running.values() for one in containers]
        for one in everything:
            one.process.kill()
        for one in everything:
            one.process.wait(10)

    def _of_image(self, name: str) -> Path:
        """A folder that belongs to the image's user."""
        path = self.path(name)
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, 10001, 10001)
        return path

    def _environment(self, service: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in service.get("env_file", []):
            found |= env_file(self.path(f"./{entry['path']}"))
        stated = service.get("environment", {})
        if service["image"].startswith("flattr:"):
            stated = {**stated, **self.settings}
        return found | {name: value for name, value in stated.items() if value is not None}

    def _mounts(self, service: dict[str, Any], more: Sequence[str]) -> list[tuple[Path, str, str]]:
        mounts = []
        for entry in service.get("volumes", []):
            source, target, *mode = entry.split(":")
            path = self.path(source) if source.startswith("./") else self._of_image(source)
            mounts.append((path, target, mode[0] if mode else "rw"))
        for entry in more:
            source, target, mode = entry.split(":")
            mounts.append((Path(source), target, mode))
        for name in service.get("secrets", []):
            mounts += [(self.path("./" + COMPOSE["secrets"][name]["file"]), f"/run/secrets/{name}", "ro")]
        return mounts

    def _wait(self, name: str, condition: str) -> None:
        for container in self.running[name]:
            if condition == "service_completed_successfully":
                assert container.process.wait(120) == 0, container.said()
            elif condition == "service_healthy":
                self._wait_healthy(container)

    def _wait_healthy(self, container: Container) -> None:
        """Ask as the file says, and no longer than Docker would; more often, as nobody wants to wait for the test."""
        check = SERVICES[container.service]["healthcheck"]
        deadline = time.monotonic() + seconds(check["interval"]) * check["retries"]
        kind, *command = check["test"]
        assert kind == "CMD"
        while (answer := container.inside(command)).returncode != 0:
            assert container.process.poll() is None, container.said()
            assert time.monotonic() < deadline, f"{container.said()}\n{answer.stdout}{answer.stderr}"
            time.sleep(0.5)
