"""What banks take: accounts in SEPA, names in SEPA's characters, days on which TARGET settles. Pure."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from stdnum import iban as _iban
from stdnum.eu import at_02
from stdnum.exceptions import ValidationError
from text_unidecode import unidecode

#: Countries whose banks take SEPA credit transfers in euro, by the code of their IBANs (EPC409-09, as of 2026).
SEPA_COUNTRIES: Final = frozenset(
    """AD AL AT BE BG CH CY CZ DE DK EE ES FI FR GB GI GR HR HU IE IS IT LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS
    SE SI SK SM VA""".split()  # noqa: SIM905 - a list to read and to add to
)
NAME_LENGTH_MAX: Final = 70
_BIC: Final = re.compile(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", re.ASCII)
#: SEPA's characters (EPC217-08): what every bank of the scheme has to take.
_NOT_SEPA: Final = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]+")


def check_iban(text: str) -> str:
    """The IBAN, as it was given. Raises ``ValueError`` with a sentence when no bank in SEPA has such an account.

    Form and length are the country's own (ISO 13616), check digits 02 to 98 by ISO 7064.
    """
    if re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", text, re.ASCII) is None:
        raise ValueError(f"iban {text[:40]!r} is not an IBAN: capital letters and digits without blanks")
    if text[:2] not in SEPA_COUNTRIES:
        raise ValueError(f"iban {text!r} is of {text[:2]}, which is not in SEPA: no credit transfer in euro reaches it")
    try:
        _iban.validate(text)
    except ValidationError:
        raise ValueError(
            f"iban {text!r} is no account of {text[:2]}: length, form and check digits must agree"
        ) from None
    if not 2 <= int(text[2:4]) <= 98:
        raise ValueError(f"iban {text!r} is no account of {text[:2]}: no bank gives the check digits {text[2:4]}")
    return text


def check_bic(text: str) -> str:
    """The BIC, as it was given. Raises ``ValueError``."""
    if _BIC.fullmatch(text) is None:
        raise ValueError(f"bic {text[:40]!r} is not a BIC")
    return text


def check_creditor_id(text: str) -> str:
    """The creditor identifier (AT-02), as it was given. Raises ``ValueError``.

    Country, check digits by ISO 7064, three characters of the creditor's own choice, the national identifier.
    """
    if re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{3}[A-Z0-9]{1,28}", text, re.ASCII) is None or not at_02.is_valid(text):
        raise ValueError(f"creditor identifier {text[:40]!r} is not one: capital letters and digits whose check agrees")
    return text


def sepa_name(text: str) -> str:
    """A name in SEPA's characters: letters without their marks, all else a blank. Raises ``ValueError`` without any.

    ``Jürgen Größe & Söhne`` becomes ``Jurgen Grosse Sohne``.
    """
    name = " ".join(_NOT_SEPA.sub(" ", unidecode(text)).split())
    if not re.search(r"[A-Za-z0-9]", name):
        raise ValueError(f"name {text[:80]!r} has no letter or digit that a bank could write")
    if len(name) > NAME_LENGTH_MAX:
        raise ValueError(f"name {text[:80]!r} is longer than {NAME_LENGTH_MAX} characters")
    # A bank may refuse what begins or ends with a slash, or has two of them (EPC217-08).
    return re.sub(r"//+", "/", name).strip("/ ")


def is_target_day(day: date) -> bool:
    """Whether TARGET settles on this day: no weekend, none of the ECB's holidays."""
    from holidays import financial_holidays  # every command reads the settings, which check accounts; few ask for days

    return day.weekday() < 5 and day not in financial_holidays("ECB", years=day.year)
