"""The page of the identity says what `flattr verify` says, to operators, and asks at most so often."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deploy.provision.topics import TopicPlan, create_topics
from tests.api.conftest import settings_for
from tests.api.test_pipeline_metrics import metric
from tests.deploy.test_verify import System, count_too_high, duplicate_lost, system
from tests.support.serving import ask, serving
from warehouse import keys
from warehouse.api import verifier
from warehouse.api.app import create_app
from warehouse.api.settings import ApiSettings
from warehouse.counts.equations import Reached, read_reached
from warehouse.storage.client import Warehouse

__all__ = ["system"]


@pytest.fixture
def with_log(system: System, embedded_broker_address: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> ApiSettings:
    monkeypatch.setenv("FLATTR_BROKER", embedded_broker_address)
    monkeypatch.setenv("FLATTR_TOPIC_CLICKS", topic)
    return settings_for(system.warehouse, api_verify_log=True)


@pytest.fixture
def embedded_broker_address(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("embedded_broker").address)


def test_page_of_a_good_system_shows_every_equation_with_its_sides(with_log: ApiSettings) -> None:
    with serving(create_app(with_log)) as url:
        answer = ask(f"{url}/verify")
        html = answer.body.decode()
        assert answer.headers["x-state"] == "holds"
        assert "Everything holds" in html
        assert re.search(r"tally of counted = its rows<br><b class=\"sides\">4 = 4", html)
        assert re.search(r"sample of the log .*<b class=\"sides\">6 = 6", html)
        assert metric(url, "flattr_verify_wrong") == 0
        assert metric(url, "flattr_verify_equations") == html.count('<li class="yes"')
        assert ask(f"{url}/verify?part=status").body.decode() in html


def test_page_names_what_is_wrong_and_the_metric_counts_it(system: System) -> None:
    duplicate_lost(system.warehouse)
    count_too_high(system.warehouse)
    with serving(create_app(settings_for(system.warehouse))) as url:
        answer = ask(f"{url}/verify")
        html = answer.body.decode()
        assert answer.headers["x-state"] == "wrong"
        assert "2 of" in html
        assert "creator-of-song" in html or "creator-of-poem" in html
        assert "1 ≠ 0" in html
        assert metric(url, "flattr_verify_wrong") == 2


def test_page_compares_at_most_once_in_the_time_set(system: System) -> None:
    with serving(create_app(settings_for(system.warehouse, api_verify_s=3600))) as url:
        assert ask(f"{url}/verify").headers["x-state"] == "holds"
        compared_at = metric(url, "flattr_verify_last_timestamp_seconds")
        duplicate_lost(system.warehouse)
        assert ask(f"{url}/verify").headers["x-state"] == "holds"
        assert metric(url, "flattr_verify_last_timestamp_seconds") == compared_at


def test_page_says_that_the_log_was_not_asked_or_did_not_answer(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(create_app(settings_for(system.warehouse))) as url:
        assert "<code>flattr verify</code>" in ask(f"{url}/verify").body.decode()
    monkeypatch.setenv("FLATTR_BROKER", "127.0.0.1:1")
    with serving(create_app(settings_for(system.warehouse, api_verify_log=True))) as url:
        answer = ask(f"{url}/verify")
        assert answer.headers["x-state"] == "holds"
        assert "No answer from 127.0.0.1:1" in answer.body.decode()


def test_api_that_always_compares_has_figures_before_anybody_looks(system: System) -> None:
    from tests.support.waiting import wait_until

    duplicate_lost(system.warehouse)
    with serving(create_app(settings_for(system.warehouse, api_verify_always=True, api_verify_s=1))) as url:
        wait_until(lambda: metric(url, "flattr_verify_wrong") == 1, "the first comparison")


def test_check_that_fails_in_a_way_nobody_thought_of_is_logged_and_tried_again(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.waiting import wait_until

    asked = []

    def failing(warehouse: Warehouse, partitions: int, epoch: int = 0) -> Reached:
        asked.append(epoch)
        if len(asked) == 1:
            raise RuntimeError("nobody thought of this")
        return read_reached(warehouse, partitions, epoch)

    monkeypatch.setattr(verifier, "read_reached", failing)
    settings = settings_for(system.warehouse, api_verify_always=True, api_verify_s=1)
    with capture_logs() as lines, serving(create_app(settings)) as url:
        wait_until(lambda: metric(url, "flattr_verify_equations") > 0, "the second comparison")
    (line,) = [line for line in lines if line["event"] == "the equations could not be checked"]
    assert line["log_level"] == "error"


def test_api_that_is_to_check_the_log_and_has_no_user_for_it_does_not_start(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATTR_BROKER_SECURITY", "SASL_SSL")
    with pytest.raises(ValueError, match="FLATTR_BROKER_SASL_USERNAME"):
        create_app(settings_for(warehouse, api_verify_log=True))


def test_log_that_does_not_answer_leaves_the_time_of_the_last_check(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATTR_BROKER", "127.0.0.1:1")
    with serving(create_app(settings_for(system.warehouse, api_verify_log=True))) as url:
        assert "No answer" in ask(f"{url}/verify").body.decode()
        assert metric(url, "flattr_verify_last_timestamp_seconds") == 0


def test_empty_warehouse_has_nothing_to_compare(api: str) -> None:
    assert ask(f"{api}/verify").headers["x-state"] == "empty"


def test_page_of_a_fresh_stack_is_no_error(
    warehouse: Warehouse, embedded_broker_address: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(create_topics(embedded_broker_address, [TopicPlan(topic, 2)]))
    monkeypatch.setenv("FLATTR_BROKER", embedded_broker_address)
    monkeypatch.setenv("FLATTR_TOPIC_CLICKS", topic)
    # A worker has said where the log ends, and there was no click yet.
    warehouse.insert("log_ends", {"partition": [0, 1], "seen_at": [1, 1], "end_position": [0, 0]})
    with serving(create_app(settings_for(warehouse, api_verify_log=True))) as url:
        answer = ask(f"{url}/verify")
        assert answer.status == 200
        assert answer.headers["x-state"] == "holds"


def test_page_is_for_operators(warehouse: Warehouse, tmp_path: Path) -> None:
    made = {role: keys.issue(role.value, role) for role in keys.Role}
    keys.save(tmp_path / "keys.json", [key for _, key in made.values()])
    with serving(create_app(settings_for(warehouse, api_keys=tmp_path / "keys.json"))) as url:
        status = {
            role.value: ask(f"{url}/verify", headers={"authorization": f"Bearer {secret}"}, follow=False).status
            for role, (secret, _) in made.items()
        }
        assert status == {"dashboard": 403, "finance": 403, "operator": 200}
        assert ask(f"{url}/verify", follow=False).status == 303
