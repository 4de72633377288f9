"""ClickHouse users by role: each can do its work as the code does it, and nothing of another's."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from msgspec import structs

from deploy.cli.commands.backup import stages
from deploy.stack.embedded import HOST, ROOT, EmbeddedWarehouse
from streams.clicks.pseudonyms import ErasureList
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.errors import LogMismatch
from streams.recovery import Recovery, load_partition
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from streams.source.log_partitions import check_not_moving, note_partitions
from streams.state.partition import MonthState, PartitionState
from tests.deploy.test_verify import AT_MS, click
from tests.payout.build import clock_after
from warehouse.counts.equations import check_warehouse, known, read_reached
from warehouse.erasure.erase import erase
from warehouse.growth.carry import carry
from warehouse.moves.notes import Move, OldLog, Step, current_epoch, left, note, old_logs
from warehouse.payout.close.close import close_month
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.proof import stored
from warehouse.payout.close.recount import restated
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.collecting.answers import take_booking
from warehouse.payout.collecting.collection import Terms, collect
from warehouse.payout.collecting.mandates import import_mandates
from warehouse.payout.collecting.pain008 import Creditor
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.payout.month_status import months
from warehouse.storage.backup import back_up
from warehouse.storage.backup_target import Target
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused
from warehouse.storage.identity_key import read_identity_key
from warehouse.storage.migrate import migrate
from warehouse.storage.restore import restore
from warehouse.subscriptions.standing import note_posted, standing, unposted

ROLES = (
    "streams", "api", "finance", "close", "approver", "operator", "erasure", "subscriptions", "backup", "grafana",
    "migrate", "verify", "replay",
)  # fmt: skip
PASSWORD = "hunter2hunter2"


class GuardedWarehouse(EmbeddedWarehouse):
    """A server with deploy/images/clickhouse/users.xml, and no other user but the one that makes the database."""

    def _users(self) -> str:
        ours = (ROOT / "deploy/images/clickhouse/users.xml").read_text()
        head, _, rest = super()._users().partition("<users>")
        inner = ours.partition("<users>")[2].partition("</users>")[0]
        return f"{head}<users>{inner}{rest}"


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    server = GuardedWarehouse(tmp_path_factory.mktemp("guarded"))
    server.environment |= {f"FLATTR_DB_PASSWORD_{role.upper()}": PASSWORD for role in ROLES}
    with server:
        admin = Warehouse(f"{server.url}/default")
        admin.command("CREATE DATABASE flattr")
        admin.close()
        yield {role: f"clickhouse://flattr_{role}:{PASSWORD}@{HOST}:{server.port}/flattr" for role in ROLES}


@pytest.fixture(scope="module")
def as_role(urls: dict[str, str]) -> Iterator[dict[str, Warehouse]]:
    users = {role: Warehouse(url) for role, url in urls.items()}
    migrate(users["migrate"])
    yield users
    for user in users.values():
        user.close()


def test_every_role_can_do_its_work(as_role: dict[str, Warehouse], tmp_path: Path) -> None:
    streams, api, finance = as_role["streams"], as_role["api"], as_role["finance"]
    rows, state = Rows(), PartitionState(0)
    from ingest.contract.click import encode
    from ingest.contract.month import month_after, month_of

    month = month_of(AT_MS)
    lines = [encode(click(number, f"member-{number}", "song")) for number in range(1, 4)]
    block = b"\n".join([*lines, encode(structs.replace(click(4, "member-1", "song"), action="subscribe"))])
    count_records(
        state, [LogRecord(0, AT_MS, block)], CountingRules(1, 0, 3_600_000, "clicks"), lambda _: MonthState(), rows
    )
    add_progress(state, AT_MS, rows)
    Writer(streams, patience_s=5).write(rows)
    assert load_partition(streams, 0).position == state.position
    read_identity_key(streams)
    Recovery(streams, 1, lambda _: None, ErasureList(streams).newest).load([state], month)
    for reader in (api, as_role["verify"]):
        assert all(check.holds for check in check_warehouse(reader, read_reached(reader, 1)))
        assert known(reader, {lines_id(number) for number in range(1, 4)}) == {lines_id(n) for n in range(1, 4)}
    assert [number for number, _ in months(api)] == [month]
    poster, following = as_role["subscriptions"], month_after(month)
    assert [there for _, there in standing(poster, following)] == [False]
    assert stored(poster, following) is None
    note_posted(poster, following, 1, AT_MS)
    assert not unposted(poster, following)
    pledges = tmp_path / "pledges.csv"
    pledges.write_text(
        f"member_id,month,amount,currency,paid\nmember-1,{month // 100}-{month % 100:02},2.00,EUR,true\n"
    )
    import_pledges(finance, pledges, "EUR")
    _collect(finance, month, tmp_path)
    assert erase(as_role["erasure"], "member-1", 1, log_days=1, settle_s=0).open_from == 0
    assert ErasureList(streams).newest()
    assert api.rows("SELECT count() FROM flattrs WHERE member_id = 'member-1'") == [(0,)]
    wrong: dict[str, list[object]] = {
        "month": [month],
        "creator_id": ["anna"],
        "partition": [0],
        "flattrs": [77],
        "position": [state.position],
    }
    streams.insert("counts_by_creator", wrong)
    settings = CloseSettings()
    proof = close_month(
        as_role["close"], month, clock=clock_after(month, settings), log_ends=lambda: {0: 1}, settings=settings
    )
    assert proof.balanced
    assert str(restated(api, month)).startswith("1 count of ")


def test_one_role_moves_the_log_and_those_who_read_it_are_told(as_role: dict[str, Warehouse]) -> None:
    streams = as_role["streams"]
    epoch, partitions = current_epoch(streams) or (0, 0)
    if not partitions:
        note_partitions(streams, epoch, partitions := 2)
    move = Move(epoch + 1, "clicks", partitions, f"clicks-e{epoch + 1}", 2 * partitions, {"max.message.bytes": "1"})
    note(as_role["migrate"], move, Step.DRAINED, ends=[1], months=[202611])
    with pytest.raises(LogMismatch, match="The log is moving"):
        check_not_moving(streams, epoch)
    carry(as_role["migrate"], move)
    for role in ("streams", "verify", "replay", "close", "erasure"):
        assert "has moved to topic" in left(as_role[role], epoch), role
    (old,) = old_logs(as_role["replay"], [202610, 202611])[-1:]
    assert old == OldLog(epoch, "clicks", (1,), frozenset({202611}))
    assert old_logs(as_role["replay"], [202612]) == []
    assert current_epoch(as_role["subscriptions"]) == (move.epoch, move.partitions)


def lines_id(number: int) -> str:
    """The id of a click of tests.deploy.test_verify, as rows have it."""
    return uuid.UUID(int=number).hex


def _collect(finance: Warehouse, month: int, folder: Path) -> None:
    """A member who pays by direct debit, as finance collects it."""
    mandates, told = folder / "mandates.csv", date(2026, 9, 1)
    mandates.write_text(
        "member_id,mandate_id,signed_on,name,iban,bic\nmember-1,M-1,2026-01-02,Mia,DE02120300000000202051,\n"
    )
    pledges = folder / "more.csv"
    pledges.write_text(f"member_id,month,amount,currency,paid\nmember-1,{month // 100}-{month % 100:02},2.50,EUR,no\n")
    import_pledges(finance, pledges, "EUR")
    import_mandates(finance, mandates, told)
    terms = Terms(Creditor("Flattr", "DE89370400440532013000", "", "DE98ZZZ09999999999"), date(2026, 9, 16), told,
                  CloseSettings())  # fmt: skip
    collect(finance, month, terms, told)
    assert take_booking(finance, month, terms.collect_on).count("collected") == 1


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("streams", "SELECT * FROM pledges"),
        ("streams", "SELECT * FROM creators"),
        ("streams", "INSERT INTO seals SELECT * FROM seals"),
        ("streams", "ALTER TABLE flattrs DELETE WHERE 1"),
        ("streams", "TRUNCATE TABLE flattrs"),
        ("api", "INSERT INTO flattrs (month) VALUES (202609)"),
        ("api", "INSERT INTO pledges (month) VALUES (202609)"),
        ("api", "DROP TABLE seals"),
        ("grafana", "SELECT * FROM pledges"),
        ("grafana", "SELECT member_id FROM flattrs"),
        ("grafana", "SELECT creator_id FROM payouts"),
        ("grafana", "SELECT member_id FROM quarantined"),
        ("grafana", "INSERT INTO seals SELECT * FROM seals"),
        ("finance", "INSERT INTO flattrs (month) VALUES (202609)"),
        ("finance", "INSERT INTO seals SELECT * FROM seals"),
        ("finance", "INSERT INTO seals_noted SELECT * FROM seals_noted"),
        ("finance", "INSERT INTO accounts_noted SELECT * FROM accounts_noted"),
        ("approver", "INSERT INTO accounts_noted SELECT * FROM accounts_noted"),
        ("finance", "ALTER TABLE debits DELETE WHERE 1"),
        ("api", "SELECT iban FROM mandates"),
        ("api", "SELECT file FROM debit_files"),
        ("close", "SELECT iban FROM mandates"),
        ("close", "INSERT INTO debits (month) VALUES (202609)"),
        ("approver", "SELECT iban FROM mandates"),
        ("grafana", "SELECT member_id FROM debits"),
        ("finance", "INSERT INTO payouts (month) VALUES (202609)"),
        ("finance", "INSERT INTO pools (month) VALUES (202609)"),
        ("finance", "INSERT INTO approvers (name) VALUES ('mal')"),
        ("finance", "INSERT INTO payment_approvals (month) VALUES (202609)"),
        ("close", "INSERT INTO approvers (name) VALUES ('mal')"),
        ("close", "INSERT INTO seals_noted SELECT * FROM seals_noted"),
        ("close", "INSERT INTO creators (creator_id) VALUES ('mal')"),
        ("close", "INSERT INTO pledges (month) VALUES (202609)"),
        ("close", "INSERT INTO flattrs (month) VALUES (202609)"),
        ("approver", "INSERT INTO approvers (name) VALUES ('mal')"),
        ("approver", "INSERT INTO creators (creator_id) VALUES ('mal')"),
        ("approver", "INSERT INTO seals SELECT * FROM seals"),
        ("approver", "SELECT k0 FROM identity_key"),
        ("verify", "SELECT * FROM pledges"),
        ("verify", "SELECT raw FROM rejected"),
        ("verify", "INSERT INTO progress (partition) VALUES (1)"),
        ("replay", "INSERT INTO flattrs (month) VALUES (202609)"),
        ("replay", "SELECT * FROM pledges"),
        ("replay", "TRUNCATE TABLE flattrs"),
        ("operator", "SELECT * FROM payouts"),
        ("operator", "INSERT INTO payment_approvals (month) VALUES (202609)"),
        ("close", "INSERT INTO bank_answers (month) VALUES (202609)"),
        ("finance", "ALTER TABLE bank_answers DELETE WHERE 1"),
        ("finance", "ALTER TABLE counts_by_creator DELETE WHERE 1"),
        ("finance", "ALTER TABLE restated_counts DELETE WHERE 1"),
        ("api", "INSERT INTO counts_by_creator (month) VALUES (202609)"),
        ("finance", "INSERT INTO progress (partition) VALUES (1)"),
        ("finance", "ALTER TABLE seals DELETE WHERE 1"),
        ("finance", "ALTER TABLE quarantine_log DELETE WHERE 1"),
        ("finance", "DROP TABLE ledger"),
        ("subscriptions", "INSERT INTO flattrs (month) VALUES (202609)"),
        ("subscriptions", "INSERT INTO subscription_orders (ends) VALUES (0)"),
        ("subscriptions", "SELECT * FROM pledges"),
        ("subscriptions", "SELECT member_sha256 FROM erasures"),
        ("subscriptions", "SELECT k0 FROM identity_key"),
        ("finance", "INSERT INTO subscription_orders (ends) VALUES (0)"),
        ("finance", "INSERT INTO subscriptions_posted (month) VALUES (202609)"),
        ("grafana", "SELECT member_id FROM subscription_orders"),
        ("erasure", "INSERT INTO subscription_orders (ends) VALUES (0)"),
        ("erasure", "ALTER TABLE pools DELETE WHERE 1"),
        ("erasure", "ALTER TABLE seals DELETE WHERE 1"),
        ("erasure", "INSERT INTO counts_by_creator (month) VALUES (202609)"),
        ("api", "SELECT k0 FROM identity_key"),
        ("api", "SELECT sipHash64Keyed((SELECT (k0, k1) FROM identity_key), 'anna')"),
        ("finance", "SELECT k0 FROM identity_key"),
        ("finance", "CREATE TABLE mine AS identity_key"),
        ("grafana", "SELECT k0 FROM identity_key"),
        ("streams", "INSERT INTO identity_key (k0) VALUES (1)"),
        ("erasure", "INSERT INTO identity_key (k0) VALUES (1)"),
        ("erasure", "ALTER TABLE identity_key DELETE WHERE 1"),
        ("backup", "SELECT member_id FROM flattrs"),
        ("backup", "SELECT k0 FROM identity_key"),
        ("backup", "INSERT INTO seals SELECT * FROM seals"),
        ("backup", "RESTORE TABLE backups AS mine FROM Disk('backups', 'monday/whole')"),
        ("backup", "BACKUP TABLE system.users TO Disk('backups', 'users')"),
        ("finance", "BACKUP TABLE mandates TO Disk('backups', 'mandates')"),
        ("migrate", "SELECT * FROM system.users"),
        ("migrate", "CREATE DATABASE another"),
    ],
)
def test_no_role_can_do_what_is_not_its_work(as_role: dict[str, Warehouse], role: str, statement: str) -> None:
    with pytest.raises(WarehouseRefused, match="Not enough privileges"):
        as_role[role].command(statement)


def test_grafana_can_ask_what_its_dashboards_ask(as_role: dict[str, Warehouse]) -> None:
    asked = [
        query
        for path in (ROOT / "deploy/images/grafana/dashboards").glob("*.json")
        for query in re.findall(r'"rawSql": "((?:[^"\\\\]|\\\\.)*)"', path.read_text())
    ]
    assert asked
    for query in asked:
        as_role["grafana"].rows(json.loads(f'"{query}"').replace("${month}", "202609"))


def test_one_role_copies_everything_and_another_brings_it_back(as_role: dict[str, Warehouse]) -> None:
    target = Target("disk", "backups")
    with locked(as_role["backup"], CLOSE) as held:
        made = back_up(held, target, "monday", stages())
    as_role["migrate"].command("DROP DATABASE flattr SYNC")
    assert restore(as_role["migrate"], target, "monday", stages()) == made
    assert migrate(as_role["migrate"]) == []


def test_a_wrong_password_opens_nothing(urls: dict[str, str]) -> None:
    guess = Warehouse(urls["api"].replace(PASSWORD, "guess"))
    with pytest.raises(WarehouseRefused):
        guess.rows("SELECT 1")
    guess.close()


#: What is tried, by the letter that tests/security/rights.txt has for it.
VERBS = {
    "r": "SELECT", "i": "INSERT", "u": "ALTER UPDATE", "d": "ALTER DELETE", "t": "TRUNCATE", "x": "DROP TABLE",
}  # fmt: skip


def test_what_every_user_may_do_with_every_table_is_what_was_decided(as_role: dict[str, Warehouse]) -> None:
    """A new table or user needs its line there, so that somebody has thought of it. The engine is asked, for each.

    ``*r`` is the right to read some columns.
    """
    every = as_role["migrate"].rows("SELECT name FROM system.tables WHERE database = 'flattr' ORDER BY name")
    names = [name for (name,) in every if not name.startswith(".inner")]
    lines = []
    for table in names:
        found = {role: allowed(as_role[role], table) for role in sorted(ROLES) if role != "migrate"}
        given = " ".join(f"{role}:{letters}" for role, letters in found.items() if letters)
        lines.append(f"{table} {given}".rstrip())
    text = "".join(f"{line}\n" for line in lines)
    file = Path(__file__).with_name("rights.txt")
    if os.environ.get("FLATTR_WRITE_RIGHTS") == "1":
        file.write_text(text)
    assert text == file.read_text(), "is this meant? FLATTR_WRITE_RIGHTS=1 writes it down"


def allowed(user: Warehouse, table: str) -> str:
    letters = "".join(
        letter for letter, verb in VERBS.items() if user.rows(f"CHECK GRANT {verb} ON flattr.{table}") == [(1,)]
    )
    if "r" in letters:
        user.rows(f"SELECT * FROM flattr.{table} LIMIT 0") if "_as_of" not in table else None
        return letters
    try:
        user.rows(f"SELECT count() FROM flattr.{table}")
    except WarehouseRefused:
        return letters
    return f"*r{letters}"
