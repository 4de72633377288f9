from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from tests.api.conftest import settings_for
from tests.support.commands import app
from tests.support.serving import Answer, ask, serving
from warehouse.api.app import create_app
from warehouse.api.settings import ApiSettings
from warehouse.keys import KeyRing, KeysError, Role, issue, load, save
from warehouse.storage.client import Warehouse

CREATOR = "/v1/creators/anna/counts"
MEMBER = "/v1/members/m-1/counts"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def secrets(file: Path) -> dict[Role, str]:
    made = {role: issue(f"the {role}", role) for role in Role}
    save(file, [key for _, key in made.values()])
    return {role: secret for role, (secret, _) in made.items()}


@pytest.fixture
def locked(warehouse: Warehouse, file: Path, secrets: dict[Role, str]) -> Iterator[str]:
    assert secrets
    with serving(create_app(settings_for(warehouse, api_keys=file))) as url:
        yield url


def ask_with(url: str, secret: str) -> Answer:
    return ask(url, headers={"Authorization": f"Bearer {secret}"})


@pytest.mark.parametrize(
    ("role", "creator", "member"), [(Role.DASHBOARD, 200, 403), (Role.FINANCE, 200, 200), (Role.OPERATOR, 200, 200)]
)
def test_role_opens_what_it_is_for(
    locked: str, secrets: dict[Role, str], role: Role, creator: int, member: int
) -> None:
    assert ask_with(locked + CREATOR, secrets[role]).status == creator
    assert ask_with(locked + MEMBER, secrets[role]).status == member


def test_request_without_a_key_is_told_which_it_needs(locked: str) -> None:
    answer = ask(locked + MEMBER)
    assert (answer.status, answer.json["reason"]) == (401, "key_missing")
    assert "finance" in answer.json["detail"]
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_unknown_key_is_refused(locked: str, secrets: dict[Role, str]) -> None:
    almost = secrets[Role.OPERATOR][:-1] + ("a" if secrets[Role.OPERATOR][-1] != "a" else "b")
    assert ask_with(locked + CREATOR, almost).json["reason"] == "key_unknown"


def test_hash_of_a_key_is_not_a_key(locked: str, file: Path, secrets: dict[Role, str]) -> None:
    assert secrets
    assert ask_with(locked + CREATOR, load(file)[0].sha256).status == 401


@pytest.mark.parametrize("path", ["/v1/counters?things=" + "1" * 32, "/live", "/ready", "/metrics"])
def test_public_routes_need_no_key(locked: str, path: str) -> None:
    assert ask(locked + path).status == 200


def test_revoked_key_is_refused_at_once_and_a_new_one_known_at_once(
    locked: str, file: Path, secrets: dict[Role, str]
) -> None:
    assert ask_with(locked + CREATOR, secrets[Role.DASHBOARD]).status == 200
    fresh, key = issue("fresh", Role.DASHBOARD)
    save(file, [key])
    assert ask_with(locked + CREATOR, secrets[Role.DASHBOARD]).status == 401
    assert ask_with(locked + CREATOR, fresh).status == 200


def test_file_that_cannot_be_read_any_more_opens_nothing(file: Path, secrets: dict[Role, str]) -> None:
    ring = KeyRing(file)
    assert ring.holder(secrets[Role.FINANCE])
    file.write_text("{")
    assert ring.holder(secrets[Role.FINANCE]) is None
    file.unlink()
    assert ring.holder(secrets[Role.FINANCE]) is None


def test_file_of_keys_is_its_owners_alone_and_holds_no_key(file: Path, secrets: dict[Role, str]) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(secret in file.read_text() for secret in secrets.values())


def test_file_that_is_no_file_of_keys_stops_the_start(file: Path) -> None:
    with pytest.raises(KeysError, match="cannot be read"):
        KeyRing(file)
    file.write_text('{"keys": [{"name": "x", "role": "king", "sha256": ""}]}')
    with pytest.raises(KeysError, match="king"):
        KeyRing(file)


def test_serving_beyond_this_machine_needs_keys_or_a_clear_word() -> None:
    with pytest.raises(ValidationError, match="FLATTR_API_KEYS"):
        ApiSettings(api_host="0.0.0.0")
    assert ApiSettings(api_host="0.0.0.0", api_open=True).api_open


def test_commands_issue_list_and_revoke(file: Path) -> None:
    run = CliRunner()
    issued = run.invoke(app, ["keys", "issue", "grafana", "dashboard", "--file", str(file)])
    assert issued.output.startswith("flk_")
    holder = KeyRing(file).holder(issued.output.strip())
    assert holder is not None
    assert (holder.name, holder.role) == ("grafana", Role.DASHBOARD)
    assert run.invoke(app, ["keys", "issue", "grafana", "finance", "--file", str(file)]).exit_code == 1
    assert run.invoke(app, ["keys", "list", "--file", str(file)]).output == "dashboard  grafana\n"
    assert run.invoke(app, ["keys", "revoke", "grafana", "--file", str(file)]).exit_code == 0
    assert KeyRing(file).holder(issued.output.strip()) is None
    assert run.invoke(app, ["keys", "revoke", "grafana", "--file", str(file)]).exit_code == 1
