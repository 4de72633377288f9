"""The seal binds the code that computed a month: the list of that code is whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from warehouse.payout.close import stages
from warehouse.payout.close.stages import CODE, code_sha256

PAYOUT = Path(stages.__file__).parents[1]


def reached(module: str = "close/close.py") -> set[str]:
    """The modules of payout that the close imports, directly or by another."""
    found, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name in found or not (PAYOUT / name).exists():
            continue
        found.add(name)
        for node in ast.walk(ast.parse((PAYOUT / name).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("warehouse.payout"):
                package = (node.module or "").removeprefix("warehouse.payout").strip(".").replace(".", "/")
                waiting += [f"{package}.py", *(f"{package}/{alias.name}.py".strip("/") for alias in node.names)]
    return found


def test_every_module_that_the_close_reaches_and_every_statement_that_it_runs_is_in_the_list() -> None:
    modules = {name for name in CODE if name.endswith(".py")}
    assert modules == reached()
    text = "".join((PAYOUT / name).read_text() for name in modules - {"close/stages.py"})
    statements = {path.stem for path in (PAYOUT / "sql").glob("*.sql")}
    run = {name for name in statements if re.search(rf"""["']{name}["']""", text)}
    run |= {"payout_pools", "payout_payouts", "payout_ledger"}  # compute.py makes their names
    run |= {"payout_stages_done", "payout_started"}  # stages.py runs them
    assert {Path(name).stem for name in CODE if name.endswith(".sql")} == run


def test_every_file_in_the_list_moves_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = code_sha256.__wrapped__()
    for name in CODE:
        monkeypatch.setattr(stages, "CODE", tuple(one for one in CODE if one != name))
        assert code_sha256.__wrapped__() != whole
        monkeypatch.undo()
