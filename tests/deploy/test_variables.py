"""What a wrong or unknown setting says, and what is in force."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from pydantic import ValidationError
from pydantic_settings import SettingsError

from deploy.cli.failures import sentence
from deploy.cli.logs import InOneLine
from deploy.cli.variables import unknown
from deploy.provision.settings_table import READERS, fields, settings, values
from deploy.stack.embedded import ROOT
from ingest.settings import IngestSettings
from streams.settings import StreamsSettings
from tests.support.commands import app
from warehouse.payout.close.settings import CloseSettings

COMMAND = typer.main.get_command(app)


def test_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    given = {"FLATTR_INGEST_PROT": "1", "FLATTR_GRAZE_S": "1", "FLATTR_QQQQ": "1", "PATH": "/bin", "INGEST_PROT": "1"}
    assert list(unknown(given, lambda: COMMAND)) == [
        "FLATTR_GRAZE_S is no setting of ours, and does nothing: did you mean FLATTR_GRACE_S?",
        "FLATTR_INGEST_PROT is no setting of ours, and does nothing: did you mean FLATTR_INGEST_PORT?",
        "FLATTR_QQQQ is no setting of ours, and does nothing",
    ]


def test_every_setting_and_every_option_is_known() -> None:
    given = {setting.name: "" for setting in settings()}
    given |= dict.fromkeys(("FLATTR_WAREHOUSE", "FLATTR_OPERATOR", "FLATTR_API_KEYS", "FLATTR_DB_PASSWORD_API"), "")
    assert not list(unknown(given, lambda: COMMAND))


@pytest.mark.parametrize(
    ("model", "variable", "value"),
    [
        (IngestSettings, "FLATTR_INGEST_PORT", "secretish"),
        (IngestSettings, "FLATTR_BROKER_SECURITY", "secretish"),
        (StreamsSettings, "FLATTR_STREAMS_FLUSH_MS", "0"),
        (StreamsSettings, "FLATTR_GRACE_S", "-1"),
    ],
)
def test_wrong_setting_is_named_by_its_variable_without_its_value(
    model: type[IngestSettings], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as wrong:
        model()
    assert sentence(wrong.value).startswith(f"{variable}: Input should be ")
    assert "secretish" not in sentence(wrong.value)


MODELS = {model.__name__: model for models in READERS.values() for model in models}
EVERY = sorted({(name, variable) for name, _, variable in fields()})


@pytest.mark.parametrize(("name", "variable"), EVERY)
def test_no_setting_takes_what_only_looks_like_a_value(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty path is the folder one happens to be in, an empty host every address, and nothing waits for inf."""
    named = {variable_of: attribute for model, attribute, variable_of in fields() if model == name}
    for given in ("", " ", "inf", "nan", "1e400", "9" * 30, "9" * 5000, "\udcff"):
        monkeypatch.setenv(variable, given)
        try:
            value = getattr(MODELS[name](), named[variable])
        except (ValidationError, SettingsError) as error:
            assert variable in sentence(error)
            assert len(sentence(error)) < 600
            continue
        assert not (isinstance(value, int | float) and not abs(value) < 1 << 54), value
        assert not (isinstance(value, Path) and not given.strip())
        assert not (variable.endswith("_HOST") and not given.strip())


def test_one_topic_is_not_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATTR_TOPIC_CLICKS", "rejected")
    with pytest.raises(ValidationError, match="are one topic"):
        IngestSettings()


@pytest.mark.parametrize("variable", ["FLATTR_CLOSE_DEBTOR_NAME", "FLATTR_CLOSE_CREDITOR_NAME"])
def test_the_name_of_our_account_is_written_as_banks_take_it(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = variable.removeprefix("FLATTR_").lower()
    monkeypatch.setenv(variable, "Größe & Söhne <e.V.>")
    assert getattr(CloseSettings(), field) == "Grosse Sohne e.V."
    for wrong in ("\N{PILE OF POO}", " ", "&", "a" * 71):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(ValidationError, match=field):
            CloseSettings()


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (
            ["month", "status", "2026-11"],
            {"FLATTR_WAREHOUSE": "http://u:hunter2@x"},
            "FLATTR_WAREHOUSE (or --warehouse)",
        ),
        (["month", "close", "2026-11"], {"FLATTR_CLOCK": "tomorrow"}, "FLATTR_CLOCK (or --clock) is 'tomorrow'"),
        (["up", "--clock", "tomorrow"], {}, "FLATTR_CLOCK (or --clock) is 'tomorrow'"),
        (["api"], {"FLATTR_CLOCK": "inf"}, "FLATTR_CLOCK (or --clock) is 'inf'"),
        (["ingest"], {"FLATTR_CLOCK": "1e308"}, "FLATTR_CLOCK (or --clock) is '1e308'"),
        (
            ["topics", "create"],
            {"FLATTR_BROKER": ":"},
            "FLATTR_BROKER: ':' is no host:port: it must be addresses",
        ),
        (["topics", "create"], {"FLATTR_BROKER": "a:99999"}, "FLATTR_BROKER: 'a:99999' is no host:port"),
        (["topics", "create"], {"FLATTR_TOPIC_CLICKS": "a b"}, "FLATTR_TOPIC_CLICKS: String should match pattern"),
        (["month", "status", "2026-11"], {"FLATTR_WAREHOUSE": "clickhouse://a:99999/x"}, "'a:99999' is no host:port"),
        # A worker waits for a Kafka that is away, but not to say what is wrong with its settings.
        (["streams"], {"FLATTR_BROKER": "127.0.0.1:1", "FLATTR_CLOCK": "tomorrow"}, "is 'tomorrow'"),
        (["streams"], {"FLATTR_BROKER": "127.0.0.1:1", "FLATTR_WAREHOUSE": "http://x"}, "FLATTR_WAREHOUSE (or"),
        (["streams"], {"FLATTR_BROKER": "127.0.0.1:1", "FLATTR_TRACES_ENDPOINT": "x"}, "FLATTR_TRACES_ENDPOINT: "),
        (["ingest"], {"FLATTR_INGEST_PORT": "x", "FLATTR_INGEST_PROT": "1"}, "did you mean FLATTR_INGEST_PORT?"),
        (["month", "status", "2026-11"], {"FLATTR_WAREHOUSE": "clickhouse://127.0.0.1:1/x"}, "`flattr up` starts"),
        (["api"], {"FLATTR_API_PARTS": "hunter2"}, "FLATTR_API_PARTS: must be JSON"),
        (
            ["topics", "create"],
            {"FLATTR_BROKER_SECURITY": "SSL", "FLATTR_BROKER_CA_FILE": "/nowhere.pem"},
            "FLATTR_BROKER_CA_FILE: /nowhere.pem is no CA certificate (PEM): No such file",
        ),
        (["topics", "create"], {"FLATTR_BROKER": "127.0.0.1:1"}, "Another broker is named with FLATTR_BROKER"),
        (["verify"], {"FLATTR_WAREHOUSE": "clickhouse://127.0.0.1:1/x"}, "Another one is named with FLATTR_WAREHOUSE"),
        (["bench", "fleet"], {"FLATTR_HIDE_CLUSTER": "1"}, "the cluster is hidden by FLATTR_HIDE_CLUSTER"),
    ],
)
def test_no_traceback_reaches_an_operator(
    arguments: list[str], environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, cwd=tmp_path, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.split("\n\n")[-1].strip().splitlines()) == 1 + ("FLATTR_INGEST_PROT" in environment)
    assert "hunter2" not in done.stderr


def test_driver_that_reconnects_says_so_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    driver = logging.getLogger("clickhouse_driver.connection")
    one = InOneLine(("clickhouse_driver",))
    driver.addFilter(one)
    try:
        refused = ConnectionRefusedError("refused")
        for _ in range(3):
            driver.warning("Failed to connect to %s:%s", "127.0.0.1", 9000, exc_info=refused)
    finally:
        driver.removeFilter(one)
    assert [record.exc_info for record in caplog.records] == [None]


def test_settings_in_force_say_where_they_are_from_and_no_secret() -> None:
    given = {"FLATTR_WAREHOUSE": "clickhouse://u:hunter2@h:9000/d", "FLATTR_BROKER_SASL_PASSWORD": "hunter2"}
    shown = {name: (value, is_given) for name, value, is_given in values(given)}
    assert shown["FLATTR_WAREHOUSE"] == ("clickhouse://u:***@h:9000/d", True)
    assert shown["FLATTR_BROKER_SASL_PASSWORD"] == ("***", True)
    assert shown["FLATTR_INGEST_PORT"] == ("8001", False)
    assert "hunter2" not in str(shown)
