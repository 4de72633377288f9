"""XML from a bank, as hostile as any file from outside: bounded, without entities, checked against its schema.

No library that ships the official schemas is kept well enough (docs/decisions/0025), so the schemas in ``xsd/`` are
ours: what is read has the standard's order, types and lengths, and what is not read may be anything.
"""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Final

from lxml import etree

from ingest.contract.thing import CONTROL
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.strict_csv import read_bytes

#: About 65,000 answers. A bank that has more to say sends more files.
BYTES_MAX: Final = 32 << 20
#: Brackets and equals signs: the parsed tree takes memory for each element and attribute, not for each byte.
_MARKUP_MAX: Final = 4 << 20
_DEPTH_MAX: Final = 40
_PROBLEMS_SHOWN: Final = 20
_NOTHING: Final = "Nothing was imported: ask the bank for the file again."
_ISO: Final = "urn:iso:std:iso:20022:tech:xsd:"
#: What stands in the schema file for the message and its reports, by the kind of message.
_NAMES: Final = {
    "pain.002": ("pain002.xsd", "CstmrPmtStsRpt", ""),
    "camt.053": ("camt.xsd", "BkToCstmrStmt", "Stmt"),
    "camt.054": ("camt.xsd", "BkToCstmrDbtCdtNtfctn", "Ntfctn"),
}
VERSIONS: Final = (
    "pain.002.001.03", "pain.002.001.10", "camt.053.001.02", "camt.053.001.08", "camt.054.001.02", "camt.054.001.08",
)  # fmt: skip


def read_answer_file(path: Path) -> bytes:
    """The bytes of a file that a bank's answer may be in, or our own CSV. Raises ``PayoutRefused``."""
    content = read_bytes(path, BYTES_MAX)
    if len(content) > BYTES_MAX:
        raise PayoutRefused(f"{path.name} is larger than {BYTES_MAX >> 20} MiB. Nothing was imported: divide it.")
    return content


def is_xml(content: bytes) -> bool:
    """Whether the file begins as XML does."""
    return content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def read_message(content: bytes) -> tuple[str, etree._Element]:
    """A message's kind and version, such as ``camt.053.001.08``, and its ``Document``, valid by the schema.

    Raises ``PayoutRefused`` for what is too large, too deep, not well-formed, has a document type, is none of
    ``VERSIONS``, or is not valid.
    """
    _check_size(content)
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the file declares: ISO 20022 knows no other
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(content.removeprefix(b"\xef\xbb\xbf").lstrip(), parser)
    except etree.XMLSyntaxError as error:
        raise PayoutRefused(f"The bank's file is no well-formed XML: {_in_words(str(error))}. {_NOTHING}") from None
    if root.xpath("boolean(/" + "/*" * (_DEPTH_MAX + 1) + ")"):
        raise PayoutRefused(f"The bank's file is nested deeper than {_DEPTH_MAX} elements. {_NOTHING}")
    version = etree.QName(root).namespace or ""
    version = version.removeprefix(_ISO)
    if version not in VERSIONS:
        raise PayoutRefused(
            f"The bank's file is {version[:80]!r}, which is not read here: {', '.join(VERSIONS)} are. {_NOTHING}"
        )
    schema = _schema(version)
    if not schema.validate(root):
        lines = [f"  line {error.line}: {_in_words(error.message)}" for error in schema.error_log]
        more = [f"  and {len(lines) - _PROBLEMS_SHOWN} more"] if len(lines) > _PROBLEMS_SHOWN else []
        shown = "\n".join([*lines[:_PROBLEMS_SHOWN], *more])
        raise PayoutRefused(f"The bank's file is no valid {version}. {_NOTHING}\n{shown}")
    return version, root


def _check_size(content: bytes) -> None:
    if len(content) > BYTES_MAX:
        raise PayoutRefused(f"The bank's file is larger than {BYTES_MAX >> 20} MiB. {_NOTHING}")
    if content.count(b"<") + content.count(b"=") > _MARKUP_MAX:
        raise PayoutRefused(f"The bank's file has more than {_MARKUP_MAX:,} elements and attributes. {_NOTHING}")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PayoutRefused(f"The bank's file is not UTF-8 at byte {error.start}. {_NOTHING}") from None
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise PayoutRefused(f"The bank's file declares a document type, which no bank does. {_NOTHING}")


@functools.cache
def _schema(version: str) -> etree.XMLSchema:
    file, message, report = _NAMES[version[:8]]
    path = Path(str(resources.files("warehouse.payout.inputs").joinpath("xsd", file)))
    text = path.read_text().replace("NAMESPACE", f"{_ISO}{version}").replace("MESSAGE", message)
    text = text.replace("REPORT", report)
    return etree.XMLSchema(etree.fromstring(text.encode(), base_url=str(path)))


def _in_words(message: str) -> str:
    """What the parser says, without namespaces, control characters and most of what the file says."""
    for version in VERSIONS:
        message = message.replace(f"{{{_ISO}{version}}}", "")
    return CONTROL.sub(" ", message)[:300]
