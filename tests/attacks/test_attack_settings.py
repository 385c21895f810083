"""A malicious parent and the tenant's settings; a malicious model and the caller's values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from e2e_client import TENANT, chat, refusal, sealed_refusal
from latensgate_shared.errors import ErrorCode
from settings_examples import Root

if TYPE_CHECKING:
    from e2e_client import Client, Opened
    from latensgate_shared.strict_json import JSONObject
    from latensgate_sim.world import World
    from stack import ParentLink

ROOT, OTHER = Root(), Root()
EMAIL = "ann.smith@example.com"
HIDES: JSONObject = {"rules": {"EMAIL_ADDRESS": {"*": {"action": "pseudonymise"}}}}


def asked(
    client: Client, link: ParentLink, document: bytes | None, text: str = EMAIL, **inside: object
) -> Opened:
    """Ask under the tenant's root, with what the parent supplies as its settings."""
    fields = client.fields(**{"tenant_root": ROOT.public, "min_settings_version": 3, **inside})
    sealed = client.seal(chat(f"Write to {text}"), fields)
    call = replace(sealed.call, tenant_settings=document)
    return client.open(sealed, link.call(call, sealed.wire))


def refused(client: Client, link: ParentLink, world: World, document: bytes | None) -> None:
    before = len(world.home.bedrock.seen)
    found = refusal(lambda: asked(client, link, document))
    assert found == sealed_refusal(ErrorCode.ERR_SETTINGS_REFUSED)
    assert len(world.home.bedrock.seen) == before


def test_settings_of_another_root_are_refused(
    client: Client, link: ParentLink, world: World
) -> None:
    """Defence: settings.require_settings, the root that was sealed."""
    refused(client, link, world, OTHER.document(TENANT, 3))


def test_settings_that_the_root_did_not_sign_are_refused(
    client: Client, link: ParentLink, world: World
) -> None:
    """Defence: settings.parse_settings, the signature."""
    refused(client, link, world, OTHER.signed(ROOT.settings(TENANT, 3)))


def test_older_settings_are_refused(client: Client, link: ParentLink, world: World) -> None:
    """Defence: settings.require_settings, the version that was sealed."""
    refused(client, link, world, ROOT.document(TENANT, 2))


def test_settings_of_another_tenant_are_refused(
    client: Client, link: ParentLink, world: World
) -> None:
    """Defence: settings.require_settings, the tenant."""
    refused(client, link, world, ROOT.document("tnt_0000beef", 3))


def test_settings_that_are_held_back_are_refused(
    client: Client, link: ParentLink, world: World
) -> None:
    """Defence: tenant_settings.demanded: none were supplied."""
    refused(client, link, world, None)


def test_settings_that_nobody_demands_are_not_applied(client: Client, link: ParentLink) -> None:
    """Defence: tenant_settings.demanded: no root was sealed."""
    document = OTHER.document(TENANT, 9, policy={"rules": {"*": {"*": {"action": "fail"}}}})
    opened = asked(client, link, document, tenant_root=None, min_settings_version=None)
    assert EMAIL in opened.text
    pii = opened.receipt.private["pii"]
    assert isinstance(pii, dict)
    assert pii["settings"] == "none"


def test_settings_cannot_loosen_the_floor(client: Client, link: ParentLink, world: World) -> None:
    """Defence: Floor.under, the join: the floor names no range."""
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "A1b2C3d4" * 40 + "\n-----END RSA PRIVATE KEY-----"
    allows: JSONObject = {
        "rules": {"*": {"*": {"action": "allow"}}},
        "lists": {"allow": [key[:200]]},
    }
    before = len(world.home.bedrock.seen)
    asked(client, link, ROOT.document(TENANT, 3, policy=allows), f"Keep {key}")
    assert b"A1b2C3d4" not in b"".join(list(world.home.bedrock.seen)[before:])


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_sees_no_value_and_the_caller_gets_each_back(
    client: Client, link: ParentLink, world: World, *, stream: bool
) -> None:
    """Defence: apply, replaced_text: what is pseudonymised does not leave."""
    before = len(world.home.bedrock.seen)
    fields = client.fields(policy=HIDES, conversation_secret=b"c" * 32)
    opened = client.send(link, client.seal(chat(f"Repeat {EMAIL}", stream=stream), fields))
    assert opened.text == f"You said: Repeat {EMAIL}"
    assert EMAIL.encode() not in b"".join(list(world.home.bedrock.seen)[before:])


def test_a_surrogate_of_another_request_is_not_restored(
    client: Client, link: ParentLink, world: World
) -> None:
    """Defence: Restorer: only what this request's own values were given."""
    before = len(world.home.bedrock.seen)
    fields = client.fields(policy=HIDES, conversation_secret=b"c" * 32)
    client.send(link, client.seal(chat(f"Repeat {EMAIL}"), fields))
    forwarded = b"".join(list(world.home.bedrock.seen)[before:]).decode()
    mark = forwarded[forwarded.index("[EMAIL_") :].partition("]")[0] + "]"
    other = client.fields(policy=HIDES, conversation_secret=b"c" * 32)
    opened = client.send(link, client.seal(chat(f"Who is {mark}"), other))
    assert EMAIL not in opened.text
    assert mark in opened.text
