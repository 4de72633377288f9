from __future__ import annotations

import pytest

from deploy.stack.embedded import EmbeddedWarehouse
from tests.conftest import Migrated, copies_of
from tests.payout.test_finance import closed_november


@pytest.fixture(scope="session")
def novembers(
    warehouse_server: EmbeddedWarehouse, migrated: Migrated, tmp_path_factory: pytest.TempPathFactory
) -> Migrated:
    """What makes a database in which November is closed: it pays ada 1.20, bob 3.97 and cat 1.12."""
    with migrated("november") as warehouse:
        closed_november(warehouse, tmp_path_factory.mktemp("november"))
        return copies_of(warehouse_server, warehouse.database)
