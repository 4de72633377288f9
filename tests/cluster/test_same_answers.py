"""Every statement of the warehouse and every read of the API says on a cluster what it says on one server.

Statements and routes are found, not listed: a new one is compared as well, or the test says what it lacks.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from deploy.stack.embedded import ROOT
from ingest.runtime.tokens import issue as issue_token
from ingest.runtime.tokens import keygen
from tests.api.conftest import NOON_MS, settings_for
from tests.cluster.filled import (
    CREATOR,
    MEMBER,
    MONTHS,
    NOVEMBER,
    OCTOBER,
    SEPTEMBER,
    SITE,
    THING,
    clear,
    copy,
    fill,
    tables,
)
from tests.conftest import Migrated
from tests.payout.build import clock_after, drained
from tests.payout.build import closing as closing_settings
from tests.security.test_authorisation import ROWS
from tests.support.serving import serving
from warehouse.api.app import create_app
from warehouse.erasure.erase import erase
from warehouse.keys import Role, issue, save
from warehouse.payout.close.close import rehearse_month
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import Row, Warehouse, named
from warehouse.storage.literals import FixedBytes

pytestmark = pytest.mark.timeout(300)
CLICK, THING_ID = UUID(int=1), THING.hex()
SQL: Final = {
    path.stem: re.sub(r"--[^\n]*", "", path.read_text())
    for name in ("warehouse", "streams")
    for path in (ROOT / name).rglob("sql/*.sql")
}
READS: Final = sorted(name for name, sql in SQL.items() if sql.split()[0] in {"SELECT", "WITH"} and "INSERT" not in sql)
#: What changes rows. Its effect is compared elsewhere.
WRITES: Final = {
    **dict.fromkeys(
        ["payout_pools", "payout_payouts", "payout_ledger", "payout_quarantine_set", "payout_end_staging", "lock_hold"],
        "a close: its proofs are compared (test_seals.py)",
    ),
    **dict.fromkeys(
        ["carry_counts_by_creator", "carry_counts_by_thing", "carry_progress", "carry_retimed"],
        "a log that grows: what it comes to is compared (test_streams.py)",
    ),
    **dict.fromkeys(
        ["erasure_copy_counts", "erasure_copy_flattrs", "erasure_copy_pledges", "erasure_copy_quarantine"],
        "an erasure: what is left is compared below",
    ),
    "payout_keep_run": "a provisional run: it is compared below",
    "backup_finished": "a backup: what comes back is compared (test_backup.py)",
}  # fmt: skip
#: What reads and is not compared.
APART: Final = {
    "archive_erased": "reads tables that stand while a month is restored: test_archive.py",
    "backup_state": "of the server's own backups",
    "backup_begun": "the server's clock, and what it had reached",
    "server_now": "the server's clock",
}
#: What finds nothing as long as all is well.
FINDS_NOTHING: Final = {
    "erasure_unfinished",
    "lock_living",
    "payout_changed_accounts",
    "payout_restated",
    "replay_orders_differences",
    "verify_counts",
    "verify_erased",
}
#: What statements are asked for, by the names of their values.
ASKED: Final[dict[str, Any]] = {
    "after": "", "after_creator": "", "after_flattrs": 1 << 40, "after_id": "", "after_month": 209901,
    "after_ms": 1 << 41,
    "asked": [(SEPTEMBER, MEMBER)], "at_ms": NOON_MS, "candidates": 99, "click_id": CLICK.hex, "count": 3,
    "currency": "USD",
    "creator_id": CREATOR, "creator_ids": [CREATOR, "bob"], "creators_version": 9,
    "digests": [sha256(MEMBER.encode()).hexdigest()], "earned_min_micro": 0, "epoch": 0, "factor": 1, "fee_bps": 1000,
    "flattrs_max": 1, "flattrs_min": 1, "from_ms": 0, "holder": "x", "id": "x", "ids": ["debit"], "kind": "",
    "lease_s": 30, "limit": 50, "member": MEMBER, "member_id": MEMBER, "member_ids": [MEMBER, "nil"],
    "members": [MEMBER] * 3, "mention": MEMBER, "minimum_micro": 0, "minor_micro": 10_000, "month": SEPTEMBER,
    "months": list(MONTHS), "name": "close", "numbers": [0, 1, 2, 3], "of_months": list(MONTHS), "open_from": NOVEMBER,
    "owner": "", "partition": 1, "partitions": 4, "pledges_version": 9, "positions": [1 << 60] * 4, "prefix": "",
    "ranges": 2,
    "previous_month": SEPTEMBER, "quarantine_step": 9, "quarantine_version": 9, "reached": [1 << 60] * 4, "reason": "",
    "replayed": 1, "run": 1, "sha256": "m", "share_percent": 10, "shared": 4, "since": 0, "since_ms": 0,
    "site_id": SITE,
    "text": "a", "thing_id": THING_ID, "thing_ids": [THING_ID] * 3, "to_ms": 1 << 41, "topics": [],
    "until": [1 << 60] * 4,
}  # fmt: skip
THINGS: Final = {"thing_ids": (FixedBytes(THING_ID),)}
#: Where a statement means something else by a name.
OWN: Final[dict[str, dict[str, Any]]] = {
    "creator_counts_of_months": {"ids": [CREATOR] * 3},
    "flattrs_after": {"positions": [0] * 4},
    "lag_ends": {"partitions": [0, 1, 2, 3]},
    "member_counts_of_months": {"ids": [MEMBER] * 3},
    "member_export": {"after_month": 0},
    "member_flattrs": {"until": 209901},
    "payout_adjusted": {"month": SEPTEMBER},
    "payout_creator_notes": {"month": OCTOBER},
    "payout_payments_back": {"month": OCTOBER},
    "payout_previous_seal": {"month": NOVEMBER},
    "payout_settled": {"month": OCTOBER},
    "quarantine_steps": {"after": 0},
    "rejected": {"partitions": [], "positions": []},
    "subscriptions_standing": {"after": ("", "", "")},
    "subscriptions_posted": {"month": NOVEMBER},
    "thing_counts": THINGS,
    "thing_counts_of_months": {"ids": [THING_ID] * 3},
    "thing_rows": THINGS,
    "things": THINGS,
    "verify_known": {"ids": [CLICK.hex]},
}
#: Routes whose answers are not compared.
NOT_COMPARED: Final = {
    "/metrics": "what this process has done",
    "/v1/creators/anna/live-token": "a token that is new each time",
}
#: Times at which, and in which, something was answered.
_TIMES: Final = re.compile(rb'"exported_at":"[^"]+"|Checked [^<]+')


@dataclass(frozen=True)
class Both:
    """One server, and a cluster with the same rows."""

    one: Warehouse
    many: Warehouse


@pytest.fixture(scope="module")
def both(migrated: Migrated, cluster_url: str) -> Iterator[Both]:
    with migrated("answers") as one, closing(Warehouse(cluster_url)) as many:
        fill(one)
        copy(one, many)
        yield Both(one, many)
        clear(many, tables(one).keys() - {"migrations", "identity_key"})


def values_for(name: str, runs: Mapping[str, str]) -> dict[str, Any]:
    """The values of a statement. One that nobody has thought of is a KeyError: say in ASKED what to ask for."""
    said = {**ASKED, **OWN.get(name, {}), **(runs if name == "payout_stages_done" else {})}
    return {value: said[value] for value in re.findall(r"%\((\w+)\)s", SQL[name])}


def is_ordered(sql: str) -> bool:
    """Whether the order of all rows is the statement's own: ORDER BY outside of all brackets."""
    while (flat := re.sub(r"\([^()]*\)", "", sql)) != sql:
        sql = flat
    return "ORDER BY" in sql and "UNION" not in sql


def test_every_statement_that_writes_is_compared_by_what_it_writes() -> None:
    assert SQL.keys() - set(READS) == WRITES.keys()


def test_every_statement_that_reads_says_the_same(both: Both) -> None:
    ((run,),) = both.one.rows("SELECT argMax(run, done_at) FROM close_log WHERE month = %(month)s", ASKED)

    asked = {name: values_for(name, {"run": run}) for name in READS if name not in APART}

    def answers(it: Warehouse) -> dict[str, list[Row]]:
        with closing(it):  # the connection of this thread
            return {name: rows_of(it, name, values) for name, values in asked.items()}

    with ThreadPoolExecutor(2) as threads:
        one, many = threads.map(answers, (both.one, both.many))
    for name in asked:
        assert one[name] == many[name], f"{name}: {[row for row in one[name] if row not in many[name]]}"
    # One more that finds nothing has to be asked for something that is there.
    assert {name for name in asked if not one[name]} == FINDS_NOTHING


def rows_of(it: Warehouse, name: str, values: Mapping[str, Any]) -> list[Row]:
    settings = CloseSettings().clickhouse if name.startswith("payout") else {}
    rows = it.rows(named(name), values, {**settings, "strings_as_bytes": True})
    return rows if is_ordered(SQL[name]) else sorted(rows, key=repr)


def answer(url: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body, of a stream its first event."""
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        if not (response.headers.get("Content-Type") or "").startswith("text/event-stream"):
            return response.status, _TIMES.sub(b"", response.read())
        body = b""
        while not body.endswith(b"\n\n") and (line := response.readline()):
            body += line
        return response.status, body


def differing(one: bytes, many: bytes) -> tuple[bytes, bytes]:
    """The bytes from where they differ."""
    at = next((at for at, pair in enumerate(zip(one, many, strict=False)) if len(set(pair)) == 2), 0)
    return one[at : at + 200], many[at : at + 200]


def signed_in(url: str, token: str) -> dict[str, str]:
    """The cookie of a member's pages."""
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)) as connection:
        body, form = f"token={token}", {"Content-Type": "application/x-www-form-urlencoded", "Origin": url}
        connection.request("POST", "/me", body, form)
        return {"Cookie": connection.getresponse().headers["Set-Cookie"].partition(";")[0]}


def test_every_route_that_reads_says_the_same(both: Both, tmp_path: Path) -> None:
    secret, key = issue("the operator", Role.OPERATOR)
    keys, tokens = tmp_path / "keys.json", tmp_path / "tokens.json"
    save(keys, [key])
    keygen(tokens, algorithm="HS256", kid="first")
    member = issue_token(tokens, MEMBER, audience="flattr", now_ms=NOON_MS, valid_s=600)

    def headers(url: str, path: str, role: str) -> Mapping[str, str]:
        if role == "member" and path.startswith("/me"):
            return signed_in(url, member)
        return {"Authorization": f"Bearer {member if role == 'member' else secret}"}

    def compared(path: str, role: str) -> str:
        path = path.replace("0" * 32, THING_ID).replace("things=x", f"things={THING_ID}")
        path = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(CLICK), path)
        one, many = (answer(url, path, headers(url, path, role)) for url in urls)
        return "" if one == many and one[0] == 200 else f"{path}: {one[0]}, {many[0]}, {differing(one[1], many[1])}"

    with ExitStack() as running:
        urls = [
            running.enter_context(serving(create_app(settings_for(it, api_keys=keys, token_keys=tokens))))
            for it in (both.one, both.many)
        ]
        asked = [(path, role) for method, path, role in ROWS if method == "GET" and path not in NOT_COMPARED]
        assert NOT_COMPARED.keys() <= {path for _, path, _ in ROWS}
        found = [compared(path, role) for path, role in asked]
    assert [problem for problem in found if problem] == []


def test_an_erasure_and_a_provisional_run_leave_the_same(both: Both) -> None:
    def changed(it: Warehouse) -> list[list[Row]]:
        rules = closing_settings()
        clock = clock_after(NOVEMBER, rules)
        clear(it, ["log_moves", "log_partitions"])  # the invented move holds up both
        rehearse_month(it, NOVEMBER, clock=clock, log_ends=drained, settings=rules, keep=True)
        name = erase(it, "nil", 4, log_days=100, settle_s=0).pseudonym
        renamed = "month, replaceOne(member_id, %(name)s, 'erased'), * EXCEPT (member_id)"
        said = [
            it.rows(f"SELECT {renamed} FROM {table} ORDER BY ALL", {"name": name}, {"strings_as_bytes": True})
            for table in ("flattrs FINAL", "counts_by_member FINAL", "pledges")
        ]
        return [*said, it.rows("SELECT line FROM provisional_payouts ORDER BY ALL")]

    one, many = changed(both.one), changed(both.many)
    assert one == many
    assert all(one)
    assert "erased" in str(one[0])
