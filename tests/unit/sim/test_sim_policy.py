"""Key policies: each rule of the evaluator, and SigV4's refusals."""

from __future__ import annotations

import json

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from latensgate_sim.clock import Clock
from latensgate_sim.errors import AWSError
from latensgate_sim.http_server import Request
from latensgate_sim.identity import Credentials, IdentityStore
from latensgate_sim.key_policy import Access, Effect, evaluate, parse_policy
from latensgate_sim.kms_keys import default_policy
from latensgate_sim.sigv4 import SigV4Checker

ACCOUNT = "111122223333"
ARN = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1"


def judge(
    *statements: dict[str, object], context: dict[str, tuple[str, ...]] | None = None
) -> Effect:
    caller = IdentityStore(Clock()).role_session(ACCOUNT, "Role", iam_actions=("kms:Describe*",))
    policy = parse_policy(json.dumps({"Statement": list(statements)}))
    return evaluate(policy, Access("kms:Decrypt", ARN, caller.identity, context or {}))


def statement(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "kms:Decrypt",
        "Resource": "*",
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def test_deny_wins_and_silence_is_no() -> None:
    assert judge(statement()) is Effect.ALLOW
    assert judge(statement(), statement(Effect="Deny")) is Effect.EXPLICIT_DENY
    assert judge() is Effect.IMPLICIT_DENY


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ("*", True),
        ("other", False),
        ({"AWS": "*"}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/Role"}, True),
        ({"AWS": [f"arn:aws:sts::{ACCOUNT}:assumed-role/Role/i-0123456789abcdef0"]}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/Other"}, False),
        ({"Service": "ec2.amazonaws.com"}, False),
        # delegation to the account: this caller's own policy has no kms:Decrypt
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, False),
        ({"AWS": ACCOUNT}, False),
    ],
)
def test_principals(principal: object, *, allowed: bool) -> None:
    assert (judge(statement(Principal=principal)) is Effect.ALLOW) == allowed


def test_a_deny_for_the_account_reaches_everyone_in_it() -> None:
    root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    denied = statement(Effect="Deny", Principal=root)
    assert judge(statement(), denied) is Effect.EXPLICIT_DENY


def test_not_principal_not_action_not_resource() -> None:
    me = {"AWS": f"arn:aws:iam::{ACCOUNT}:role/Role"}
    assert judge(statement(Principal=None, NotPrincipal=me)) is Effect.IMPLICIT_DENY
    assert judge(statement(Action=None, NotAction="kms:Encrypt")) is Effect.ALLOW
    assert judge(statement(Action=None, NotAction="KMS:DEC*")) is Effect.IMPLICIT_DENY
    assert judge(statement(Resource=None, NotResource=ARN)) is Effect.IMPLICIT_DENY
    assert judge(statement(Resource=f"{ARN}*")) is Effect.ALLOW
    assert judge(statement(Resource="arn:aws:kms:eu-west-1:*")) is Effect.IMPLICIT_DENY


CONTEXT: dict[str, tuple[str, ...]] = {
    "kms:recipientattestation:pcr0": ("ab",),
    "kms:encryptioncontextkeys": ("service", "release"),
    "aws:securetransport": ("true",),
}
PCR0 = "kms:RecipientAttestation:PCR0"
KEYS = "kms:EncryptionContextKeys"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"StringEquals": {PCR0: "ab"}}, True),
        ({"StringEquals": {PCR0: "AB"}}, False),
        ({"StringEqualsIgnoreCase": {PCR0: ["cd", "AB"]}}, True),
        ({"StringNotEquals": {PCR0: "ab"}}, False),
        ({"StringNotEquals": {PCR0: ["cd", "ef"]}}, True),
        ({"StringNotEqualsIgnoreCase": {PCR0: "AB"}}, False),
        ({"StringLike": {PCR0: "a*"}}, True),
        ({"StringNotLike": {PCR0: "a*"}}, False),
        ({"StringEquals": {"kms:absent": "x"}}, False),
        ({"StringNotEquals": {"kms:absent": "x"}}, True),
        ({"StringEqualsIfExists": {"kms:absent": "x"}}, True),
        ({"StringEqualsIfExists": {PCR0: "x"}}, False),
        ({"Null": {"kms:absent": "true"}}, True),
        ({"Null": {PCR0: "true"}}, False),
        ({"Null": {PCR0: False}}, True),
        ({"Bool": {"aws:SecureTransport": True}}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, False),
        ({"ForAllValues:StringEquals": {KEYS: ["service", "release", "x"]}}, True),
        ({"ForAllValues:StringEquals": {KEYS: ["service"]}}, False),
        ({"ForAllValues:StringEquals": {"kms:absent": ["x"]}}, True),
        ({"ForAnyValue:StringEquals": {KEYS: ["service"]}}, True),
        ({"ForAnyValue:StringEquals": {KEYS: ["x"]}}, False),
        ({"ForAnyValue:StringEquals": {"kms:absent": ["x"]}}, False),
        ({"StringEquals": {PCR0: "ab"}, "Bool": {"aws:SecureTransport": "false"}}, False),
    ],
)
def test_conditions(condition: object, *, holds: bool) -> None:
    assert (judge(statement(Condition=condition), context=CONTEXT) is Effect.ALLOW) == holds


FRONT = '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", '


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"Statement": 7}',
        '{"Statement": [{"Effect": "Maybe", "Principal": "*", "Action": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Surprise": 1}]}',
        FRONT + '"Condition": {"StringSounds": {"a": "b"}}}]}',
        FRONT + '"Condition": {"ForNoValues:StringEquals": {"a": "b"}}}]}',
        FRONT + '"Condition": {"StringEquals": {"a": null}}}]}',
    ],
)
def test_a_policy_that_is_not_understood_is_never_stored(text: str) -> None:
    with pytest.raises(AWSError) as error:
        parse_policy(text)
    assert error.value.code == "MalformedPolicyDocumentException"


def test_the_default_policy_delegates_to_the_account() -> None:
    caller = IdentityStore(Clock()).user(ACCOUNT, "admin").identity
    policy = parse_policy(default_policy(ACCOUNT))
    assert evaluate(policy, Access("kms:Decrypt", ARN, caller, {})) is Effect.ALLOW


class Signed:
    """A request that botocore signed, and the checker that judges it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.identities = IdentityStore(self.clock)
        self.credentials = self.identities.role_session(ACCOUNT, "Role")
        self.checker = SigV4Checker("kms", "us-east-1", self.identities, self.clock, 400)

    def request(
        self, credentials: Credentials | None = None, url: str = "https://h/a%3Ab?y=2&x=1%2F"
    ) -> Request:
        mine = credentials or self.credentials
        raw = AWSRequest("POST", url, {"Host": "h", "X-Amz-Target": " a  b "}, b"{}")
        signer = BotoCredentials(mine.access_key_id, mine.secret_access_key, mine.session_token)
        SigV4Auth(signer, "kms", "us-east-1").add_auth(raw)
        headers = {name.lower(): str(value) for name, value in raw.headers.items()}
        return Request("POST", url.removeprefix("https://h"), headers, b"{}")


def changed(request: Request, **headers: str | None) -> Request:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    merged = {
        name: value for name, value in {**request.headers, **names}.items() if value is not None
    }
    return Request(request.method, request.target, merged, request.body)


def test_botocore_signature_is_accepted() -> None:
    signed = Signed()
    assert signed.checker.verify(signed.request()) is signed.credentials.identity


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": None}, "MissingAuthenticationTokenException"),
        ({"authorization": "Bearer x"}, "IncompleteSignatureException"),
        ({"x_amz_security_token": "other"}, "UnrecognizedClientException"),
        ({"x_amz_date": "yesterday"}, "IncompleteSignatureException"),
        ({"x_amz_date": "20200101T000000Z"}, "InvalidSignatureException"),
        ({"x_amz_new": "1"}, "InvalidSignatureException"),
        ({"host": "other"}, "InvalidSignatureException"),
    ],
)
def test_changed_headers_are_refused(headers: dict[str, str | None], code: str) -> None:
    signed = Signed()
    with pytest.raises(AWSError) as error:
        signed.checker.verify(changed(signed.request(), **headers))
    assert (error.value.code, error.value.status) == (code, 400)


def test_changed_body_path_scope_and_day_are_refused() -> None:
    signed = Signed()
    good = signed.request()
    elsewhere = SigV4Checker("sts", "us-east-1", signed.identities, signed.clock, 403)
    with pytest.raises(AWSError, match="scoped"):
        elsewhere.verify(good)
    for bad in (
        Request("POST", good.target, good.headers, b"[]"),
        Request("POST", "/other", good.headers, good.body),
        Request("POST", f"{good.path}?x=2", good.headers, good.body),
    ):
        with pytest.raises(AWSError, match="does not match"):
            signed.checker.verify(bad)
    authorization = good.headers["authorization"]
    day = good.headers["x-amz-date"][:8]
    with pytest.raises(AWSError, match="Date in Credential"):
        signed.checker.verify(changed(good, authorization=authorization.replace(day, "20200101")))


def test_expired_credentials() -> None:
    signed = Signed()
    short = signed.identities.role_session(ACCOUNT, "Role", lifetime_s=-1)
    with pytest.raises(AWSError) as error:
        signed.checker.verify(signed.request(short))
    assert error.value.code == "ExpiredTokenException"
