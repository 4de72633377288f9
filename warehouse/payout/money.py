"""Money as integers: micro-units of a currency, its minor units by ISO 4217, the fee.

1,000,000 micro-units are one unit of a currency (EUR 1), so six decimals are exact and a sum of 9 trillion units
fits in 63 bits. No float ever touches an amount.
"""

from __future__ import annotations

import re
from typing import Final

MICRO: Final = 1_000_000
BASIS_POINTS: Final = 10_000
#: The largest single amount, 1,000,000 units: anything above is a typing error, and the cap keeps the split's products
#: (pool times flattrs) below 2^63.
AMOUNT_MAX_MICRO: Final = 1_000_000 * MICRO

#: Decimals of the accepted currencies, from ISO 4217.
MINOR_DIGITS: Final = {
    "AUD": 2, "BGN": 2, "BHD": 3, "BRL": 2, "CAD": 2, "CHF": 2, "CLP": 0, "CNY": 2, "CZK": 2, "DKK": 2,
    "EUR": 2, "GBP": 2, "HKD": 2, "HUF": 2, "ILS": 2, "INR": 2, "ISK": 0, "JOD": 3, "JPY": 0, "KRW": 0,
    "KWD": 3, "MXN": 2, "NOK": 2, "NZD": 2, "OMR": 3, "PLN": 2, "RON": 2, "SEK": 2, "SGD": 2, "TND": 3,
    "TRY": 2, "UGX": 0, "USD": 2, "VND": 0, "XAF": 0, "XOF": 0, "ZAR": 2,
}  # fmt: skip

_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?", re.ASCII)


class AmountError(ValueError):
    """A text is not a valid amount of its currency; the message says why."""


def minor_micro(currency: str) -> int:
    """One minor unit in micro-units: 10,000 for EUR (a cent), 1,000,000 for JPY. Raises ``AmountError``."""
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise AmountError(f"currency {currency!r} is unknown: give an ISO 4217 code in capital letters")
    return MICRO // int(10**digits)


def parse_amount(text: str, currency: str) -> int:
    """Parse ``2``, ``2.5`` or ``2.00`` into micro-units. Raises ``AmountError``.

    More decimals than the currency has are refused, never rounded.
    """
    unit = minor_micro(currency)
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise AmountError(f"amount {text!r} is not a number such as 2.00")
    fraction = (found[2] or "").ljust(6, "0")
    amount = int(found[1]) * MICRO + int(fraction)
    if amount % unit:
        raise AmountError(f"amount {text!r} has more than the {MINOR_DIGITS[currency]} decimals of {currency}")
    if amount > AMOUNT_MAX_MICRO:
        raise AmountError(f"amount {text!r} is over {AMOUNT_MAX_MICRO // MICRO:,} {currency}")
    return amount


def fee(amount_micro: int, fee_bps: int) -> int:
    """The fee on an amount, in micro-units, rounded down: a fraction of a micro-unit goes to the creators."""
    return amount_micro * fee_bps // BASIS_POINTS


def as_text(amount_micro: int, currency: str | None = None) -> str:
    """Format an amount exactly: with the currency's decimals if they suffice, otherwise (or without currency) with six.

    ``-1_999_999`` is ``-1.999999``; ``2_000_000`` in EUR is ``2.00``.
    """
    sign = "-" if amount_micro < 0 else ""
    units, rest = divmod(abs(amount_micro), MICRO)
    fraction = f"{rest:06}"
    if currency is not None and rest % minor_micro(currency) == 0:
        fraction = fraction[: MINOR_DIGITS[currency]]
    return f"{sign}{units}.{fraction}" if fraction else f"{sign}{units}"
