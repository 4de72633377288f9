"""One cluster of 2 x 2 nodes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.proving.rig.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(parts_folder: Path, cluster_rig: type[Cluster]) -> Iterator[Cluster]:
    """Two shards of two replicas. A test that kills a node starts it again."""
    with cluster_rig(parts_folder / "cluster") as started:
        yield started
