"""What is told of held requests, what approvers sign, and what they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from latensgate_shared.calls_hold import check_pending
from latensgate_shared.error_answers import WireError, error_object, parse_error_object
from latensgate_shared.errors import ErrorCode, LatensgateError, MalformedError
from latensgate_shared.hold import (
    ApprovalError,
    Decision,
    HoldDecision,
    HoldNotice,
    SignedDecision,
    copied,
    decode_signed_decision,
    parse_notice,
    parse_signed_decision,
    plan_digest,
)
from latensgate_shared.hold_view import HoldView, encode_view, open_view, seal_view, verify_view
from latensgate_shared.jcs import canonicalize
from latensgate_shared.pii_policy import HoldTerms, PolicyError
from latensgate_shared.pii_policy_document import parse_floor, parse_policy
from latensgate_shared.sealed import (
    SUITE_XWING,
    OpeningKey,
    SealedRequest,
    reopen_request,
    seal_request,
)
from latensgate_shared.strict_json import JSONError, JSONObject, JSONValue

ID = "hld_" + "0123456789abcdef" * 2
DIGEST = "sha384:" + "ab" * 48
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
DECIDED = HoldDecision(ID, DIGEST, Decision.APPROVE, 1_790_000_000)
COUNTS: JSONObject = {"US_SSN": {"prompt": 2}}
NOTICE = HoldNotice(ID, DIGEST, 1_790_000_000, COUNTS, ("Ann",))
VIEW = HoldView(ID, DIGEST, "tnt_a3f9c42b", "m", "chat.completions", 9, COUNTS)


def test_what_is_signed_is_the_specification_byte_for_byte() -> None:
    assert DECIDED.signing_input() == (
        b'latensgate/1 hold decision\x00{"decision":"approve","expires_at":1790000000,'
        b'"pending_id":"hld_0123456789abcdef0123456789abcdef","plan_digest":"sha384:'
        + b"ab" * 48
        + b'"}'
    )
    signed = SignedDecision.sign(DECIDED, PUBLIC, KEY.sign)
    assert signed.verify() == DECIDED
    assert parse_signed_decision(signed.to_json()) == signed
    assert decode_signed_decision(canonicalize(signed.to_json())) == signed


@pytest.mark.parametrize(
    "change",
    [
        {"decision": Decision.DENY},
        {"pending_id": ID[:-1] + "0"},
        {"plan_digest": DIGEST[:-1] + "0"},
        {"expires_at": 1},
    ],
)
def test_each_member_is_signed(change: dict[str, object]) -> None:
    signed = SignedDecision.sign(DECIDED, PUBLIC, KEY.sign)
    other = replace(signed, decision=replace(DECIDED, **change))  # type: ignore[arg-type]
    with pytest.raises(ApprovalError):
        other.verify()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("decision", "yes"),
        ("decision", None),
        ("pending_id", "hld_1"),
        ("plan_digest", "x"),
        ("expires_at", -1),
        ("approver", "00"),
        ("signature", "00"),
        ("more", 1),
    ],
)
def test_another_form_of_decision_is_refused(member: str, value: JSONValue) -> None:
    told = SignedDecision.sign(DECIDED, PUBLIC, KEY.sign).to_json()
    with pytest.raises(MalformedError):
        parse_signed_decision({**told, member: value})
    with pytest.raises(JSONError):
        HoldDecision(ID, DIGEST, "approve", 1)  # type: ignore[arg-type]  # a text is none


def test_a_notice_stands_in_a_sealed_error() -> None:
    error = WireError(ErrorCode.ERR_HELD, "held", hold=NOTICE)
    assert parse_error_object(error_object(error)) == error
    with pytest.raises(JSONError, match="only with ERR_HELD"):
        WireError(ErrorCode.ERR_REPLAY, "no", hold=NOTICE)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("pending_id", "x"),
        ("plan_digest", "x"),
        ("expires_at", "soon"),
        ("counts", {}),
        ("counts", {"NOTHING": {"prompt": 1}}),
        ("counts", {"US_SSN": {}}),
        ("counts", {"US_SSN": 1}),
        ("counts", {"US_SSN": {"sideways": 1}}),
        ("counts", {"US_SSN": {"prompt": 0}}),
        ("approvers", "Ann"),
        ("approvers", [1]),
        ("approvers", ["x"] * 33),
        ("more", 1),
    ],
)
def test_another_form_of_notice_is_refused(member: str, value: JSONValue) -> None:
    with pytest.raises(MalformedError):
        parse_notice({**NOTICE.to_json(), member: value})


def test_plans_have_names() -> None:
    salt = bytes(32)
    names = {
        plan_digest(salt, bodies)
        for bodies in ([], [b""], [b"", b""], [b"ab"], [b"a", b"b"], [b"b", b"a"])
    }
    assert len(names) == 6
    assert plan_digest(b"\x01" * 32, [b"ab"]) not in names
    assert copied({"US_SSN": {"prompt": 1}}) == {"US_SSN": {"prompt": 1}}


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
@settings(max_examples=100)
def test_two_plans_never_share_a_name(one: list[bytes], other: list[bytes]) -> None:
    salt = bytes(32)
    assert (plan_digest(salt, one) == plan_digest(salt, other)) == (one == other)


@pytest.mark.parametrize("content", [None, ("a", "b")])
def test_a_view_is_signed_and_sealed(content: tuple[str, ...] | None) -> None:
    view = replace(VIEW, content=content)
    encoded = encode_view(view, KEY.sign)
    assert verify_view(encoded, PUBLIC) == view
    ann = OpeningKey(SUITE_XWING, bytes(range(32)))
    sealed = seal_view(encoded, ann.sealing_key.public_key.raw, pending=ID)
    assert open_view(ann, sealed, pending=ID) == encoded
    with pytest.raises(LatensgateError):
        open_view(ann, sealed, pending=ID[:-1] + "0")
    with pytest.raises(LatensgateError):
        open_view(OpeningKey(SUITE_XWING, bytes(32)), sealed, pending=ID)


def test_views_of_others_are_none() -> None:
    encoded = encode_view(VIEW, KEY.sign)
    stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(ApprovalError):
        verify_view(encoded, stranger)
    with pytest.raises(ApprovalError):
        verify_view(encoded.replace(b'"prompt":2', b'"prompt":1'), PUBLIC)


@pytest.mark.parametrize("content", ["x", [1], [""]])
def test_another_content_is_no_view(content: JSONValue) -> None:
    members = {**VIEW.to_json(), "content": content}
    signature = KEY.sign(b"latensgate/1 hold view\x00" + canonicalize(members))
    body = canonicalize({"signature": signature.hex(), "view": members, "pad": ""})
    with pytest.raises(MalformedError):
        verify_view(body, PUBLIC)


def test_pending_comes_whole_or_not_at_all() -> None:
    check_pending(None, None, None)
    check_pending(ID, b"x", 1)
    bad: list[Callable[[], None]] = [
        lambda: check_pending(ID, None, None),
        lambda: check_pending("x", b"x", 1),
        lambda: check_pending(ID, b"", 1),
        lambda: check_pending(ID, b"x", -1),
    ]
    for each in bad:
        with pytest.raises(MalformedError):
            each()


def test_a_request_that_does_not_open_again() -> None:
    key = OpeningKey(SUITE_XWING, bytes(32))
    made: SealedRequest = seal_request(key.sealing_key, b"{}", b"hello")
    with pytest.raises(LatensgateError) as caught:
        reopen_request(bytes(32), b"{}", made.wire)
    assert caught.value.code is ErrorCode.ERR_OPEN_FAILED


# --- policies ---

HELD: JSONObject = {"rules": {"US_SSN": {"prompt": {"action": "allow", "hold": True}}}}


def test_terms_of_holds_join() -> None:
    shows = parse_policy({"hold": {"show_content": True, "expires_s": 600}}).hold
    hides = parse_policy({"hold": {"show_content": False}}).hold
    none = parse_policy({}).hold
    assert shows.joined(none) == none.joined(shows) == shows
    assert (
        shows.joined(hides) == hides.joined(shows) == HoldTerms(show_content=False, expires_s=600)
    )
    assert parse_policy({"hold": {"expires_s": 60}}).hold.joined(shows).expires_s == 60
    policy = parse_policy({**HELD, "hold": {"expires_s": 60}})
    assert policy.to_json()["hold"] == {"expires_s": 60}
    assert "hold" not in parse_policy(HELD).to_json()
    assert policy.joined(parse_policy({})).hold == policy.hold
    floor = parse_floor({**HELD, "hold": {"expires_s": 90}})
    assert floor.effective(parse_policy({"hold": {"expires_s": 300}}), None).hold.expires_s == 90
    listed = parse_policy({**HELD, "lists": {"allow": ["x"]}, "hold": {"expires_s": 60}})
    assert listed.hold.expires_s == 60


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"rules": {"US_SSN": {"answer": {"action": "flag", "hold": True}}}}, "answer.hold"),
        ({"rules": {"US_SSN": {"*": {"action": "flag", "hold": True}}}}, "*.hold"),
        ({"rules": {"*": {"tool_arguments": {"action": "flag", "hold": True}}}}, ".hold"),
        ({"rules": {"US_SSN": {"prompt": {"action": "flag", "hold": 1}}}}, "prompt.hold"),
        ({"hold": {"show_content": 1}}, "hold.show_content"),
        ({"hold": {"expires_s": 59}}, "hold.expires_s"),
        ({"hold": {"expires_s": 86_401}}, "hold.expires_s"),
        ({"hold": {"expires_s": True}}, "hold.expires_s"),
        ({"hold": {"more": 1}}, "hold"),
        ({"hold": 1}, "hold"),
    ],
)
def test_what_cannot_be_held_is_named(document: JSONObject, field: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(document)
    assert caught.value.field.endswith(field)
