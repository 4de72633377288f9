"""`flattr topics grow` that kills itself with -9 right after a step: STEP PARTITIONS."""

from __future__ import annotations

import os
import signal
import sys

from deploy.provision.grow import Growth, Places, Wishes
from ingest.runtime.clock import system_clock
from streams.settings import StreamsSettings
from warehouse.storage.client import Warehouse


def main() -> None:
    last, partitions = sys.argv[1], int(sys.argv[2])
    settings = StreamsSettings()

    def after_step(step: str) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    places = Places(
        settings.broker, {}, settings.topic_clicks, settings.log_epoch, settings.streams_group,
        Warehouse(settings.warehouse_url),
    )  # fmt: skip
    Growth(places, print, after_step).grow(Wishes(partitions, anyway=True), system_clock, settings.grace_s)


if __name__ == "__main__":
    main()
