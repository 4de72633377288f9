"""Certificates of servers: who signed them, for which name, until when."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from cryptography import x509

from deploy.cli.doctor.findings import Finding, ok, warning, wrong

_SOON: Final = dt.timedelta(days=30)
#: OpenSSL's numbers of what a certificate can be refused for, and what to do.
_REMEDIES: Final = {
    10: "renew the certificate, and the service that shows it",
    9: "correct this machine's clock, or wait: the certificate is not valid yet",
    62: "reach it by a name that the certificate has, or renew the certificate with this name",
    18: "name the authority that signed it, or have one sign it",
    19: "name the authority that signed it",
    20: "name the authority that signed it",
}


def look_at_endpoint(what: str, host: str, port: int, ca: str | None, timeout_s: float) -> Iterator[Finding]:
    """Greet a server by TLS as our clients do, and look at the certificate that it shows."""
    about = f"certificate of {what} {host}:{port}"
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        yield wrong(about, f"the CA file {ca} cannot be used: {error.strerror}", "name a certificate (PEM)")
        return
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as greeted,
        ):
            shown = greeted.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        to_do = _REMEDIES.get(error.verify_code, "renew the certificate")
        yield wrong(about, f"it is not believed: {error.verify_message}", to_do)
    except ssl.SSLError:
        yield wrong(about, "the server does not speak TLS", "use its TLS port, or set the service to speak TLS")
    except OSError as error:
        yield wrong(about, f"the server does not answer: {error.strerror or error}", "see whether it runs")
    else:
        one = x509.load_der_x509_certificate(shown or b"")
        yield validity(about, one.subject.rfc4514_string(), one.not_valid_before_utc, one.not_valid_after_utc)


def validity(about: str, whose: str, begins: dt.datetime, ends: dt.datetime) -> Finding:
    """Whether the certificate is valid now, and for some time."""
    now = dt.datetime.now(dt.UTC)
    if ends <= now:
        return wrong(about, f"{whose} has expired on {ends:%Y-%m-%d}", "renew it")
    if begins > now:
        return wrong(
            about, f"{whose} is valid from {begins:%Y-%m-%d} only", "correct this machine's clock, or renew it"
        )
    if ends - now < _SOON:
        return warning(about, f"{whose} expires on {ends:%Y-%m-%d}", "renew it")
    return ok(about, f"{whose} is valid until {ends:%Y-%m-%d}")
