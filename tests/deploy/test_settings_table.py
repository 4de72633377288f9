from __future__ import annotations

from pathlib import Path

import pytest

from deploy.provision.settings_table import Setting, markdown, settings

ROOT = Path(__file__).resolve().parents[2]


def test_page_of_settings_is_what_the_code_reads() -> None:
    written = (ROOT / "docs/settings.md").read_text()
    assert written == markdown(), "run: flattr settings > docs/settings.md"


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_setting_is_of_this_system_and_says_no_secret(setting: Setting) -> None:
    assert setting.name.startswith("FLATTR_")
    assert "password" not in setting.default


def test_setting_that_two_services_read_stands_once() -> None:
    (clock,) = [setting for setting in settings() if setting.name == "FLATTR_CLOCK"]
    assert {"ingest", "streams", "api"} <= set(clock.readers)
