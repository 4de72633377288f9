"""Member tokens: who is believed, and who is not."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest

import ingest.runtime.tokens
from ingest.contract.rejection import Reason
from ingest.runtime.refusal import Refused
from ingest.runtime.tokens import Tokens, issue, keygen, read_keys
from ingest.runtime.watched_file import FileError

NOW_MS = 1_763_800_000_000


class Desk:
    """Tokens of one key file on a clock that the test turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = NOW_MS
        self.tokens = Tokens(path, audience="flattr", clock=lambda: self.now_ms, monotonic=lambda: self.now_ms / 1000)

    def issue(self, *, valid_s: int = 60, audience: str = "flattr", kid: str | None = None) -> str:
        return issue(self.path, "ann", audience=audience, now_ms=NOW_MS, valid_s=valid_s, kid=kid)

    def signed(self, claims: dict[str, object], **headers: object) -> str:
        secret = json.loads(self.path.read_text())["first"]["k"]
        key = base64.urlsafe_b64decode(secret + "=")
        return jwt.encode(claims, key, algorithm="HS256", headers={"kid": "first", **headers})

    def reason(self, token: str | bytes) -> Reason | None:
        try:
            self.tokens.member(token.encode() if isinstance(token, str) else token)
        except Refused as refused:
            return refused.refusal.reason
        return None


@pytest.fixture
def desk(token_keys: Path) -> Desk:
    return Desk(token_keys)


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_token_of_our_key_names_its_member(tmp_path: Path, algorithm: str) -> None:
    keygen(tmp_path / "keys.json", algorithm=algorithm, kid="k")
    desk = Desk(tmp_path / "keys.json")
    assert desk.tokens.member(desk.issue().encode()).member_id == "ann"


def test_token_expires_by_the_services_clock_though_it_is_cached(desk: Desk) -> None:
    token = desk.issue(valid_s=60)
    assert desk.reason(token) is None
    desk.now_ms += 59_999
    assert desk.reason(token) is None
    desk.now_ms += 1
    assert desk.reason(token) is Reason.TOKEN_EXPIRED


def test_member_who_clicks_is_not_forgotten_for_a_crowd_of_others(
    token_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.runtime.tokens, "_CACHE_MAX", 10)
    desk = Desk(token_keys)
    verified: list[bytes] = []
    claims = desk.tokens._claims

    def counted(token: bytes) -> dict[str, Any]:
        verified.append(token)
        return claims(token)

    monkeypatch.setattr(desk.tokens, "_claims", counted)
    honest = desk.issue()
    for second in range(1, 41):
        assert desk.reason(honest) is None
        assert desk.reason(desk.issue(valid_s=second)) is None
    assert desk.tokens.cached == 10
    assert verified.count(honest.encode()) == 1


def test_key_added_is_believed_and_key_removed_is_not_without_a_restart(desk: Desk) -> None:
    old = desk.issue()
    keygen(desk.path, algorithm="EdDSA", kid="second")
    new = desk.issue()
    assert jwt.get_unverified_header(new)["kid"] == "second"
    desk.now_ms += 1000
    assert desk.reason(old) is None
    assert desk.reason(new) is None
    keys = json.loads(desk.path.read_text())
    del keys["first"]
    desk.path.write_text(json.dumps(keys))
    desk.now_ms += 1000
    assert desk.reason(old) is Reason.TOKEN_INVALID
    assert desk.reason(new) is None


def test_broken_key_file_leaves_the_old_keys_in_force(desk: Desk) -> None:
    token = desk.issue()
    desk.path.write_text("{")
    desk.now_ms += 1000
    assert desk.reason(token) is None


def test_token_for_another_audience_opens_nothing(desk: Desk) -> None:
    assert desk.reason(desk.issue(audience="bank")) is Reason.TOKEN_INVALID


def test_issuers_clock_may_be_a_minute_ahead_and_beyond_it_the_reason_says_to_wait(desk: Desk) -> None:
    claims: dict[str, object] = {"sub": "ann", "aud": "flattr", "exp": NOW_MS // 1000 + 600}
    assert desk.reason(desk.signed(claims)) is None
    assert desk.reason(desk.signed({**claims, "nbf": NOW_MS // 1000 + 2})) is None
    assert desk.reason(desk.signed({**claims, "nbf": NOW_MS // 1000 + 60, "iat": NOW_MS // 1000 + 60})) is None
    with pytest.raises(Refused) as caught:
        desk.tokens.member(desk.signed({**claims, "nbf": NOW_MS // 1000 + 80}).encode())
    assert caught.value.refusal.reason is Reason.TOKEN_EARLY
    assert caught.value.retry_after_s == 20


BOUND = {"creator": "bob", "thing": "https://example.org/a", "site": "blog"}


def pixel_reason(desk: Desk, **changed: object) -> Reason | None:
    """Why the pixel's door is closed to a token with these claims; None when it is open."""
    now_s = NOW_MS // 1000
    claims: dict[str, object] = {
        "sub": "ann",
        "aud": "flattr-pixel",
        "iat": now_s,
        "exp": now_s + 600,
        **BOUND,
        **changed,
    }
    try:
        desk.tokens.pixel(desk.signed({name: value for name, value in claims.items() if value is not None}).encode())
    except Refused as refused:
        return refused.refusal.reason
    return None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"aud": ["flattr-pixel"]}, None),
        ({"iat": NOW_MS // 1000 + 30}, None),
        ({"aud": "flattr"}, Reason.TOKEN_PURPOSE),
        ({"aud": ["flattr", "flattr-pixel"]}, Reason.TOKEN_PURPOSE),
        ({"iat": None}, Reason.TOKEN_PURPOSE),
        ({"exp": NOW_MS // 1000 + 3601}, Reason.TOKEN_PURPOSE),
        ({"iat": NOW_MS // 1000 + 90, "exp": NOW_MS // 1000 + 99}, Reason.TOKEN_EARLY),
        ({"iat": NOW_MS // 1000 - 90, "exp": NOW_MS // 1000}, Reason.TOKEN_EXPIRED),
        ({"creator": None}, Reason.TOKEN_SCOPE),
        ({"thing": ""}, Reason.TOKEN_SCOPE),
        ({"site": None}, Reason.TOKEN_SCOPE),
        ({"site": 7}, Reason.TOKEN_SCOPE),
        ({"sub": "a b"}, Reason.TOKEN_INVALID),
        ({"aud": "bank"}, Reason.TOKEN_INVALID),
    ],
)
def test_pixel_token_is_short_lived_and_names_creator_thing_and_site(
    desk: Desk, changed: dict[str, object], reason: Reason | None
) -> None:
    assert pixel_reason(desk, **changed) is reason


@pytest.mark.parametrize("audience", ["flattr-pixel", ["flattr-pixel"], ["flattr", "flattr-pixel"]])
def test_pixel_token_is_no_members_token(desk: Desk, audience: object) -> None:
    claims = {"sub": "ann", "aud": audience, "iat": NOW_MS // 1000, "exp": NOW_MS // 1000 + 60, **BOUND}
    assert desk.reason(desk.signed(claims)) is Reason.TOKEN_PURPOSE


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "flattr", "exp": 9e9},
        {"sub": "ann", "exp": 9e9},
        {"sub": "ann", "aud": "flattr"},
        {"sub": 7, "aud": "flattr", "exp": 9e9},
        {"sub": "", "aud": "flattr", "exp": 9e9},
        {"sub": "a b", "aud": "flattr", "exp": 9e9},
        {"sub": "a" * 65, "aud": "flattr", "exp": 9e9},
        {"sub": "ann", "aud": "flattr", "exp": "tomorrow"},
        {"sub": "ann", "aud": "flattr", "exp": 1e300},
        {"sub": "ann", "aud": "flattr", "exp": True},
        {"sub": "ann", "aud": 7, "exp": 9e9},
    ],
)
def test_signed_token_with_claims_that_we_never_issue_is_invalid(desk: Desk, claims: dict[str, object]) -> None:
    body = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "HS256", "kid": "first"}, claims)
    )
    secret = json.loads(desk.path.read_text())["first"]["k"]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        body.encode(), base64.urlsafe_b64decode(secret + "=")
    )
    assert desk.reason(f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}") is Reason.TOKEN_INVALID


def test_token_whose_sub_is_no_member_id_says_so_and_none_is_issued(desk: Desk) -> None:
    for sub in ("", "a b", "a" * 65, "m\u00fcller", "\u0430nn", "ann\n"):
        claims: dict[str, object] = {"sub": sub, "aud": "flattr", "exp": NOW_MS // 1000 + 60}
        with pytest.raises(Refused, match="sub names no member: it must be 1 to 64 visible ASCII") as refused:
            desk.tokens.member(desk.signed(claims).encode())
        assert refused.value.refusal.reason is Reason.TOKEN_INVALID
        with pytest.raises(ValueError, match=r"^member_id .* is not 1 to 64 visible ASCII characters"):
            issue(desk.path, sub, audience="flattr", now_ms=NOW_MS, valid_s=60)


def test_forged_tokens_are_invalid_and_answer_alike(desk: Desk) -> None:
    good = desk.issue()
    head, claims, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"first"}').rstrip(b"=").decode()
    listed = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":["first"]}').rstrip(b"=").decode()
    forged = [
        f"{none}.{claims}.",
        f"{none}.{claims}.{signature}",
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[::-1]}",
        f"{head}.{claims}",
        good[:-2],
        desk.signed({"sub": "ann", "aud": "flattr", "exp": 9e9}, kid="nobody"),
        f"{listed}.{claims}.{signature}",
        "x" * 5000,
        "...",
        "\u00e9",
    ]
    details = set()
    for token in forged:
        with pytest.raises(Refused) as caught:
            desk.tokens.member(token.encode())
        details.add((caught.value.refusal.reason, caught.value.refusal.detail))
    assert details == {(Reason.TOKEN_INVALID, "the token is not one that we issued")}


def test_public_key_of_eddsa_is_no_secret_for_hs256(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keygen(path, algorithm="EdDSA", kid="k")
    public = json.loads(path.read_text())["k"]["x"]
    confused = jwt.encode(
        {"sub": "ann", "aud": "flattr", "exp": 9e9},
        base64.urlsafe_b64decode(public + "="),
        algorithm="HS256",
        headers={"kid": "k"},
    )
    assert Desk(path).reason(confused) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "holds no valid token keys"),
        ("[]", "must be a JSON object"),
        ("{}", "at least one key"),
        ('{"k": 7}', "holds no valid token keys"),
        ('{"k": {"kty": "oct", "alg": "HS256", "k": "c2hvcnQ"}}', "shorter than 32 bytes"),
        ('{"k": {"kty": "oct", "alg": "HS512", "k": "c2hvcnQ"}}', "not one of"),
    ],
)
def test_unusable_key_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(FileError, match=part):
        read_keys(path)


def test_missing_key_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="flattr token keygen"):
        read_keys(tmp_path / "none.json")


def test_key_file_is_for_its_owner_alone(token_keys: Path) -> None:
    assert token_keys.stat().st_mode & 0o077 == 0
