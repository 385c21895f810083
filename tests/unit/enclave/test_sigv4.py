"""Signatures: refusals and secrecy (tests/property compares them with botocore)."""

from __future__ import annotations

import pytest

from latensgate_enclave.aws.sigv4 import (
    Credentials,
    CredentialsError,
    SigningError,
    SigningScope,
    sign,
)
from latensgate_enclave.http1 import HttpRequest

CREDENTIALS = Credentials("AKIDEXAMPLE00000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "t0ken")
SCOPE = SigningScope("eu-central-1", "kms")


def request(path: str = "/", headers: tuple[tuple[str, str], ...] = ()) -> HttpRequest:
    return HttpRequest("POST", "kms.eu-central-1.amazonaws.com", path, headers, b"{}")


def test_same_input_same_signature_and_every_part_counts() -> None:
    base = sign(request(), CREDENTIALS, SCOPE, at_s=1_790_000_000)
    assert base == sign(request(), CREDENTIALS, SCOPE, at_s=1_790_000_000)
    others = [
        sign(request("/x"), CREDENTIALS, SCOPE, at_s=1_790_000_000),
        sign(request(headers=(("a", "b"),)), CREDENTIALS, SCOPE, at_s=1_790_000_000),
        sign(request(), CREDENTIALS, SCOPE, at_s=1_790_000_001),
        sign(request(), CREDENTIALS, SigningScope("eu-west-1", "kms"), at_s=1_790_000_000),
        sign(request(), CREDENTIALS, SigningScope("eu-central-1", "sts"), at_s=1_790_000_000),
        sign(request(), Credentials(CREDENTIALS.access_key_id, "other"), SCOPE, at_s=1_790_000_000),
    ]
    signatures = {
        dict(each.headers)["authorization"].rpartition("=")[2] for each in [base, *others]
    }
    assert len(signatures) == 1 + len(others)


def test_no_token_no_field() -> None:
    plain = Credentials(CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key)
    signed = dict(sign(request(), plain, SCOPE, at_s=0).headers)
    assert set(signed) == {"x-amz-date", "authorization"}
    assert signed["x-amz-date"] == "19700101T000000Z"


def test_secrets_are_not_shown() -> None:
    signed = sign(request(), CREDENTIALS, SCOPE, at_s=0)
    for shown in (repr(CREDENTIALS), repr(signed)):
        assert "wJalr" not in shown
        assert "t0ken" not in shown


@pytest.mark.parametrize(
    ("key_id", "secret", "token"),
    [
        ("", "s", None),
        ("AKID", "s", None),
        ("AKIDEXAMPLE0000\n", "s", None),
        ("AKIDEXAMPLE00000", "", None),
        ("AKIDEXAMPLE00000", "a b", None),
        ("AKIDEXAMPLE00000", "s", ""),
        ("AKIDEXAMPLE00000", "s", "a\r\nb"),
        ("AKIDEXAMPLE00000", "s", "\ud800"),
        ("AKIDEXAMPLE00000", "s", "x" * 8_193),
    ],
)
def test_credentials_refused(key_id: str, secret: str, token: str | None) -> None:
    with pytest.raises(CredentialsError) as caught:
        Credentials(key_id, secret, token)
    assert "AKID" not in str(caught.value)


@pytest.mark.parametrize("path", ["//", "/a//b", "/a/", "/.", "/a/../b", "/a/."])
def test_paths_with_two_canonical_forms(path: str) -> None:
    with pytest.raises(SigningError):
        sign(request(path), CREDENTIALS, SCOPE, at_s=0)


@pytest.mark.parametrize(
    "headers", [(("a", "1"), ("A", "2")), (("Host", "other"),), (("x-amz-date", "1"),)]
)
def test_fields_twice(headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(SigningError):
        sign(request(headers=headers), CREDENTIALS, SCOPE, at_s=0)


@pytest.mark.parametrize(
    ("region", "service"), [("", "kms"), ("eu", ""), ("EU", "kms"), ("e\n", "k")]
)
def test_scope_refused(region: str, service: str) -> None:
    with pytest.raises(SigningError):
        SigningScope(region, service)
