"""What ingest is measured against, each under the same uvicorn with the same options.

``bare`` reads the body and answers 204: what the server itself can do. ``naive`` is how one writes it first:
a FastAPI route, a pydantic body, one ``send_and_wait`` per click, and not even a token to verify.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import UUID

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from ingest.serve import server_options
from ingest.settings import IngestSettings


async def bare(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI, with nothing added
    """Read the body, answer 204."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class NaiveClick(BaseModel):
    """A click as pydantic knows it."""

    model_config = ConfigDict(extra="forbid")

    click_id: UUID
    action: Literal["flattr", "undo"] = "flattr"
    member_id: str = Field(min_length=1, max_length=64)
    creator_id: str = Field(min_length=1, max_length=64)
    thing: str = Field(min_length=1, max_length=2048)
    site_id: str = ""


def naive(settings: IngestSettings) -> FastAPI:
    """One record per click, awaited."""
    producer: AIOKafkaProducer

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal producer
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.broker, acks="all", enable_idempotence=settings.idempotence
        )
        await producer.start()
        yield
        await producer.stop()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/clicks", status_code=202)
    async def click(body: NaiveClick) -> dict[str, Any]:
        placed = await producer.send_and_wait(
            settings.topic_clicks, body.model_dump_json().encode(), key=body.member_id.encode()
        )
        return {"click_id": body.click_id, "partition": placed.partition, "offset": placed.offset}

    return app


def main() -> None:
    """Serve the one that is named on the settings' port."""
    settings = IngestSettings()
    app: Any = bare if sys.argv[1] == "bare" else naive(settings)
    uvicorn.run(app, host=settings.host, port=settings.port, **{**server_options(settings), "http": "httptools"})


if __name__ == "__main__":
    main()
