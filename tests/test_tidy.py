"""The style that a reader relies on, kept by a test. ruff and mypy keep the rest."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ingest", "streams", "warehouse", "deploy", "benchmarks")
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_module_and_functions_fit_in_a_head(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX, f"{named(path)} is too long: divide it by what it does"
    for function in functions(ast.parse(text)):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{named(path)}:{function.lineno} {function.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_assert_guards_anything_outside_tests(path: Path) -> None:
    """`python -O` strips asserts; what guards money or data raises."""
    found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert not found, f"{named(path)} asserts in lines {found}"


@pytest.mark.parametrize("path", sorted((ROOT / "warehouse/payout").rglob("*.py")), ids=named)
def test_no_float_comes_near_money(path: Path) -> None:
    tree = ast.parse(path.read_text())
    seconds = {id(name) for node in ast.walk(tree) for name in seconds_annotated(node)}
    for node in ast.walk(tree):
        if id(node) in seconds:
            continue
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), f"{named(path)}:{node.lineno}"
        assert not (isinstance(node, ast.Name) and node.id == "float"), f"{named(path)}:{node.lineno}"
        assert not (
            isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not is_path(node) and not is_time(node)
        ), f"{named(path)}:{node.lineno} divides with /: use // and say where the rest goes"


def seconds_annotated(node: ast.AST) -> Iterator[ast.AST]:
    """Annotations and defaults of names that end in _s: a time-out may be a fraction."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.lower().endswith("_s"):
        yield from ast.walk(node)
    if isinstance(node, ast.arg) and node.arg.endswith("_s") and node.annotation:
        yield from ast.walk(node.annotation)


def is_time(node: ast.AST) -> bool:
    """`now_ms / 1000` is a time in seconds."""
    return isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and node.left.id.endswith("_ms")


def is_path(node: ast.AST) -> bool:
    """`folder / "name"` joins paths."""
    if not isinstance(node, ast.BinOp):
        return False
    texts = [part for part in (node.left, node.right) if isinstance(part, ast.Constant | ast.JoinedStr)]
    return any(not is_number(text) for text in texts)


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


#: Words of our own for what the field has a name for: cache, coalesce, batch, retry, poller, service.
PRIVATE_WORDS = {"lean", "kept", "quick", "batched", "ahead", "warm", "together", "parts", "watched", "keeper"}
#: Names of others, or of the wire: `time_ahead` is a reason code, `active_parts` are ClickHouse's; the others are
#: columns, metrics and settings.
PUBLISHED = {
    "AHEAD_MAX_MS", "TIME_AHEAD", "active_parts", "ahead_max_ms", "api_counters_kept_bytes", "api_parts", "kept_micro",
    "kept_mb_a_day", "parts_folder", "read_ahead", "rejections_kept", "WatchedFile", "watched_file",
}  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_names_are_those_of_the_field(path: Path) -> None:
    def words(name: str) -> set[str]:
        return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)}

    tree = ast.parse(path.read_text())
    names = {path.stem}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    private = {name for name in names - PUBLISHED if words(name) & PRIVATE_WORDS}
    assert not private, f"{named(path)} uses words of our own: {sorted(private)}"


def test_no_two_statements_bear_one_name() -> None:
    found = [path.stem for package in ("warehouse", "streams") for path in (ROOT / package).rglob("sql/*.sql")]
    assert found
    assert len(found) == len(set(found))


def test_every_statement_is_run_by_somebody() -> None:
    text = "".join(path.read_text() for path in SOURCES)
    computed = {f"payout_{table}" for table in ("pools", "payouts", "ledger")}  # compute.py makes their names
    copied = {f"erasure_copy_{table}" for table in ("counts", "flattrs", "pledges", "quarantine")}  # and erase.py these
    found = {path.stem for package in ("warehouse", "streams") for path in (ROOT / package).rglob("sql/*.sql")}
    assert {name for name in found - computed - copied if f'"{name}"' not in text and f"'{name}'" not in text} == set()


def test_nothing_is_left_to_be_done_later() -> None:
    # Spelt so that this file does not find itself.
    marks = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"]))
    found = [named(path) for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")] if marks.search(path.read_text())]
    assert found == []


def test_exemptions_carry_their_reason() -> None:
    bare = re.compile(r"# (noqa: [A-Z0-9, ]+|type: ignore\[[a-z-]+\])\s*$")
    found = [
        f"{named(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_lock_files_name_no_download_address() -> None:
    locks = [ROOT / folder / "requirements.lock" for folder in ("", "deploy", "deploy/kubernetes")]
    for lock in [*locks, *(ROOT / "benchmarks/rivals").glob("*.lock")]:
        lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
        assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_lock_of_the_image_holds_what_the_project_needs_at_the_versions_that_are_tested() -> None:
    def versions(lock: Path) -> set[str]:
        return set(re.findall(r"^([\w.-]+==\S+)", lock.read_text(), flags=re.MULTILINE))

    image = versions(ROOT / "deploy/requirements.lock")
    assert image <= versions(ROOT / "requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[>=<]", dependency)[0] for dependency in project["dependencies"]}
    assert needed <= {pin.partition("==")[0] for pin in image}
