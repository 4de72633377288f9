"""The documents tell the truth: links lead somewhere, commands exist, figures name their command."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main
from pydantic import SecretStr

from tests.support.commands import app
from warehouse import __version__
from warehouse.api.app import create_app
from warehouse.api.settings import ApiSettings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
COMMANDS = typer.main.get_command(app)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file) if file else path
        assert found.exists(), f"{named(path)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{named(path)} links to {target}"


def command_lines(path: Path) -> list[list[str]]:
    """The words behind every `flattr` that stands in code or in a code block."""
    text = path.read_text()
    spans = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^(?: {4}|\$ )(.+)$", text, flags=re.MULTILINE)]
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL):
        spans += block.splitlines()
    found = []
    for span in spans:
        matches = re.finditer(r"(?:^|[\s(])flattr ([a-z][^|#;)\n]*)", span)
        found += [shlex.split(match.group(1).replace("'", "").replace('"', "")) for match in matches]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_commands_and_options_exist(path: Path) -> None:
    for words in command_lines(path):
        command = COMMANDS
        for word in words:
            below = getattr(command, "commands", {})
            if word in below:
                command = below[word]
            elif below and not word.startswith("-") and "|" not in word:
                pytest.fail(f"{named(path)}: flattr {' '.join(words)}: there is no {word!r}")
            else:
                break
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known | {"--help"}, f"{named(path)}: flattr {' '.join(words)}"


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)", path.read_text()):
            assert target in targets, f"{named(path)}: make {target}"


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert __version__ == version
    assert f"image: flattr:{version}\n" in (ROOT / "docker-compose.yml").read_text()
    assert f"\nVersion {version}." in (ROOT / "README.md").read_text()
    released = re.findall(r"^## \[([0-9.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version


def test_ci_calls_the_readme_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "    make test" in readme
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), flags=re.MULTILINE)


def test_every_route_of_the_read_api_stands_in_the_document_for_dashboards() -> None:
    text = (ROOT / "docs" / "dashboards.md").read_text()
    paths = create_app(ApiSettings(warehouse=SecretStr("clickhouse://127.0.0.1:9000/flattr"))).openapi()["paths"]
    routes = {re.sub(r"\{(creator|thing|member)_id\}", "{id}", path) for path in paths if path.startswith("/v1/")}
    assert {route for route in routes if not stands_in(route, text)} == set()


def stands_in(route: str, text: str) -> bool:
    """In full, or as `.../last` behind another of the same month."""
    last = re.escape(route.rpartition("/")[2])
    return bool(re.search(rf"{re.escape(route)}(?![\w/{{.-])|`\.\.\./{last}`", text))
