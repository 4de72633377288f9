"""What traces cost a request: off, on and not drawn, on and drawn; the beacon alone, all in turn in one run."""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Final

from deploy.stack.embedded import HOST, free_port
from ingest.admission.caller import Admission
from ingest.admission.rate_limit import RateLimits
from ingest.admission.request import Request
from ingest.admission.validate import Validator
from ingest.http.beacon import CLICKS, Beacon, Services
from ingest.http.refused_input import RefusedInput
from ingest.log.lane import Placed, RequestClicks
from ingest.metrics import Metrics
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import Tokens, issue, keygen
from ingest.runtime.trace_settings import TraceSettings
from ingest.runtime.tracing import Traces
from ingest.settings import IngestSettings
from ingest.tracing import TracedBeacon

_ROUNDS: Final = 15
_REQUESTS: Final = 2000
_RATIOS: Final = {"not_drawn": 0.0, "drawn_1_in_100": 0.01, "all_drawn": 1.0}


class _Placing:
    """A publisher that has a place for everything at once."""

    def submit(self, chunk: RequestClicks) -> None:
        chunk.answer(Placed(0, 1, 0))


def run(*, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Microseconds a request, best of the rounds, exports going nowhere: ``off_us``, and one for each ratio."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"
        keygen(keys, algorithm="HS256", kid="1")
        token = issue(keys, "ann", audience="flattr", now_ms=system_clock(), valid_s=3600)
        services = _services(IngestSettings(token_keys=keys, member_clicks_per_s=0))
        beacons: dict[str, Beacon] = {"off": Beacon(services)}
        opened = []
        for name, ratio in _RATIOS.items():
            away = TraceSettings(endpoint=f"http://{HOST}:{free_port()}/v1/traces", sample_ratio=ratio)
            opened.append(Traces(away, "bench"))
            beacons[name] = TracedBeacon(services, opened[-1])
        took: dict[str, list[float]] = {name: [] for name in beacons}
        for _ in range(rounds):
            for name, beacon in beacons.items():
                took[name].append(_once(beacon, token))
        for traces in opened:
            traces.close()
    return {f"{name}_us": round(min(figures), 2) for name, figures in took.items()}


def _services(settings: IngestSettings) -> Services:
    tokens = Tokens(settings.token_keys, audience="flattr", clock=system_clock)
    limits, metrics = RateLimits(), Metrics()
    return Services(
        settings=settings,
        publisher=_Placing(),  # type: ignore[arg-type] # all that the beacon asks of one here
        admission=Admission(settings, tokens, limits),
        validator=Validator(batch_max_clicks=settings.batch_max_clicks),
        clock=system_clock,
        metrics=metrics,
        retained=RefusedInput(settings, limits, metrics, system_clock, lambda _: True),
    )


def _once(beacon: Beacon, token: str) -> float:
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"content-type", b"application/json")]
    bodies = [
        b'{"click_id": "%s", "creator_id": "bob", "thing": "https://bob.example/1"}' % str(uuid.uuid4()).encode()
        for _ in range(_REQUESTS)
    ]
    statuses = set()
    began = time.perf_counter()
    for body in bodies:
        beacon.take(Request("POST", CLICKS, b"", headers), body, lambda status, _headers, _body: statuses.add(status))
    took_s = time.perf_counter() - began
    if statuses != {202}:
        raise RuntimeError(f"answered {statuses}")
    return took_s / _REQUESTS * 1e6
