"""The beacon's entry in the OpenAPI document, which FastAPI cannot derive from a raw route."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ingest.contract.click import VERSION, ActionName
from ingest.contract.names import ID_LENGTH_MAX
from ingest.contract.rejection import Reason
from ingest.contract.thing import THING_LENGTH_MAX
from ingest.contract.times import TIME_END_MS
from ingest.runtime.refusal import STATUS

_ID = {"type": "string", "minLength": 1, "maxLength": ID_LENGTH_MAX, "pattern": "^[!-~]+$"}
_TIME = {"type": ["integer", "string"], "minimum": 0, "exclusiveMaximum": TIME_END_MS, "format": "date-time"}

CLICK_SCHEMA: dict[str, Any] = {
    "title": "Click, version 1",
    "description": "One click as a client sends it. Unknown fields are dropped if they begin with x_, else refused.",
    "type": "object",
    "required": ["creator_id", "thing"],
    "properties": {
        "v": {"const": VERSION, "description": "Version of the format; defaults to 1."},
        "click_id": {
            "type": "string",
            "format": "uuid",
            "description": "Generated once by the client and repeated in every retry. If omitted, the server generates "
            "one, and a retry is another click.",
        },
        "action": {
            "enum": list(get_args(ActionName)),
            "default": "flattr",
            "description": "subscribe is a flattr that repeats on the first of every month; unsubscribe ends that.",
        },
        "until": {
            "type": "string",
            "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$",
            "description": "Only with subscribe: the last month in which it repeats.",
        },
        "member_id": {**_ID, "description": "If given, must equal the token's subject."},
        "creator_id": {**_ID, "description": "The creator who is flattred."},
        "thing": {
            "type": "string",
            "minLength": 1,
            "maxLength": THING_LENGTH_MAX,
            "description": "What is flattred: an http(s) address, or an id chosen by the creator.",
        },
        "site_id": {**_ID, "description": "The site that shows the button."},
        "clicked_at": {
            **_TIME,
            "description": "When it was clicked, by the client's clock, the same in every retry: milliseconds since "
            "1970, or RFC 3339 with a zone. Defaults to the time of receipt.",
        },
        "sent_at": {
            **_TIME,
            "description": "The same clock's time when this request is sent, new in every retry: it shows how wrong "
            "the clock is. Ignored without clicked_at.",
        },
    },
    "patternProperties": {"^x_": {}},
    "additionalProperties": False,
}

_REFUSAL: dict[str, Any] = {
    "type": "object",
    "required": ["reason", "detail"],
    "properties": {
        "reason": {"enum": [reason.value for reason in Reason]},
        "detail": {"type": "string"},
        "item": {"type": "integer", "description": "Index in the request."},
        "field": {"type": "string"},
    },
}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "reason", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        **_REFUSAL["properties"],
        "refused": {"type": "array", "items": _REFUSAL},
    },
}
_RECEIPT: dict[str, Any] = {
    "type": "object",
    "required": ["item", "click_id", "partition", "offset", "index"],
    "properties": {
        "item": {"type": "integer"},
        "click_id": {"type": "string", "format": "uuid"},
        "partition": {"type": ["integer", "null"], "description": "Null while the click waits in the spool."},
        "offset": {"type": ["integer", "null"]},
        "index": {"type": ["integer", "null"], "description": "Index of the click in the record."},
    },
}
_TAKEN: dict[str, Any] = {
    "type": "object",
    "required": ["receipts", "refused"],
    "properties": {
        "receipts": {"type": "array", "items": _RECEIPT},
        "refused": {"type": "array", "items": _REFUSAL},
    },
}


def describe_beacon(app: FastAPI) -> None:
    """Add the beacon to ``app.openapi()``."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schema["paths"]["/v1/clicks"] = {"post": _operation()}
            schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["member"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's documented way to extend the document


def _operation() -> dict[str, Any]:
    reasons: dict[int, list[str]] = {}
    for reason, status in STATUS.items():
        reasons.setdefault(status, []).append(reason.value)
    errors = {
        str(status): {
            "description": "No click was accepted: " + ", ".join(names),
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status, names in sorted(reasons.items())
    }
    return {
        "tags": ["clicks"],
        "summary": "Send clicks",
        "description": "One click, an array of clicks, or one per line. The answer is 202 once every in-sync replica "
        "has the clicks listed under `receipts`.",
        "operationId": "send_clicks",
        "security": [{"member": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            CLICK_SCHEMA,
                            {"type": "array", "items": CLICK_SCHEMA, "minItems": 1, "maxItems": 1000},
                        ]
                    }
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "202": {"description": "Accepted.", "content": {"application/json": {"schema": _TAKEN}}},
            **errors,
        },
    }
