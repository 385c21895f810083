"""GetCallerIdentity: the tiny XML reader against botocore's parser, and what it refuses."""

from __future__ import annotations

import contextlib

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from latensgate_enclave.aws.sigv4 import SigningScope
from latensgate_enclave.aws.sts import (
    CallerIdentity,
    IdentityError,
    caller_identity_request,
    parse_caller_identity,
    sts_scope,
)
from latensgate_enclave.http1 import HttpResponse
from latensgate_shared.errors import ErrorCode

ARN = "arn:aws:sts::111122223333:assumed-role/service/i-0123"
ANSWER = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>{ARN}</Arn>
    <UserId>AROA:i-0123</UserId>
    <Account>111122223333</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata>
    <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>
  </ResponseMetadata>
</GetCallerIdentityResponse>
"""


def parse(text: str, status: int = 200) -> CallerIdentity:
    return parse_caller_identity(HttpResponse(status, {}, text.encode()))


def test_request() -> None:
    request = caller_identity_request("eu-central-1")
    assert (request.method, request.host, request.path) == (
        "POST",
        "sts.eu-central-1.amazonaws.com",
        "/",
    )
    assert request.body == b"Action=GetCallerIdentity&Version=2011-06-15"
    assert sts_scope("eu-central-1") == SigningScope("eu-central-1", "sts")


@pytest.mark.parametrize(
    "prologue", ["", '<?xml version="1.0"?>\n', '<?xml version="1.0" encoding="UTF-8"?>\n']
)
def test_agrees_with_botocore(prologue: str) -> None:
    model = botocore.session.Session().get_service_model("sts")
    shape = model.operation_model("GetCallerIdentity").output_shape
    assert shape is not None
    response: dict[str, object] = {
        "status_code": 200,
        "headers": {},
        "body": (prologue + ANSWER).encode(),
    }
    theirs = create_parser("query").parse(response, shape)
    ours = parse(prologue + ANSWER)
    assert (ours.account, ours.arn) == (theirs["Account"], theirs["Arn"])
    assert ours == CallerIdentity("111122223333", ARN)
    assert "service" not in repr(ours)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{}",
        ANSWER[:-30],
        ANSWER + "<x></x>",
        ANSWER + "</x>",
        "</x>" + ANSWER,
        "text" + ANSWER,
        "\ufeff" + ANSWER,
        ANSWER.replace("</Arn>", "</Account>"),
        ANSWER.replace("</Arn>", "</Arn>text"),
        ANSWER.replace("<UserId>", "<Arn>x</Arn><UserId>"),
        ANSWER.replace("111122223333</Account>", "999999999999</Account>"),
        ANSWER.replace("<Account>111122223333</Account>", ""),
        ANSWER.replace("<Account>", "<Account><![CDATA[").replace("</Account>", "]]></Account>"),
        ANSWER.replace("<Account>", "<!-- x --><Account>"),
        ANSWER.replace("111122223333</Account>", "&#49;11122223333</Account>"),
        ANSWER.replace("<Arn>", '<Arn a="b">'),
        ANSWER.replace(ARN, "arn:aws:s3::111122223333:x"),
        ANSWER.replace("GetCallerIdentityResult", "OtherResult"),
        '<!DOCTYPE a [<!ENTITY b "c">]>' + ANSWER,
        '<?xml version="1.0"?><?xml-stylesheet href="x"?>' + ANSWER,
        '<?xml version="1.0" encoding="UTF-16"?>' + ANSWER,
        "<a>" * 10_000,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(IdentityError) as caught:
        parse(text)
    assert caught.value.code is ErrorCode.ERR_UPSTREAM_IDENTITY


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, ErrorCode.ERR_UPSTREAM_IDENTITY),
        (400, ErrorCode.ERR_UPSTREAM_IDENTITY),
        (429, ErrorCode.ERR_UPSTREAM),
        (500, ErrorCode.ERR_UPSTREAM),
        (503, ErrorCode.ERR_UPSTREAM),
    ],
)
def test_status(status: int, code: ErrorCode) -> None:
    with pytest.raises(IdentityError) as caught:
        parse(ANSWER, status)
    assert caught.value.code is code


@given(st.binary(max_size=100), st.integers(0, len(ANSWER)), st.integers(0, len(ANSWER)))
def test_only_typed_errors(noise: bytes, start: int, end: int) -> None:
    for body in (noise, ANSWER.encode()[:start] + noise + ANSWER.encode()[end:]):
        with contextlib.suppress(IdentityError):
            parse_caller_identity(HttpResponse(200, {}, body))
