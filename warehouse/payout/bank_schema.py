"""The bank's files against their schemas (ISO 20022)."""

from __future__ import annotations

import functools
from importlib import resources

from lxml import etree


class SchemaViolated(AssertionError):
    """A bug: we made a file that its schema forbids."""


def check_schema(xml: bytes, scheme: str) -> None:
    """Raise ``SchemaViolated`` unless a file is valid in a scheme such as ``pain.001.001.09``."""
    schema = _schema(scheme)
    if not schema.validate(etree.fromstring(xml)):
        raise SchemaViolated(f"bug: the file is not a {scheme}: {schema.error_log.last_error}")


@functools.cache
def _schema(scheme: str) -> etree.XMLSchema:
    # The library that makes the files brings the schemas; its own check takes a millisecond for each payment.
    return etree.XMLSchema(etree.fromstring((resources.files("sepaxml") / "schemas" / f"{scheme}.xsd").read_bytes()))
