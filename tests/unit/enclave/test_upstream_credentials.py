"""Who may give an enclave the credential of an upstream, and what it answers without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_doubles import Bench, bench, in_loop
from latensgate_enclave.measured import OpenAIUpstream
from latensgate_enclave.upstream_credentials import UpstreamCredentials
from latensgate_shared.calls_upstream import UpstreamCredentialAnswer, UpstreamCredentialCall
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import REQUEST_WINDOW_S
from latensgate_shared.sealed import SealedRequest, SealingKey
from latensgate_shared.upstream_credential import (
    UpstreamCredential,
    seal_credential,
    verify_confirmation,
)

OPERATOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = "sk-planted-0123456789"
TABLES: dict[str, dict[str, object]] = {
    "house": {"kind": "openai", "host": "llm.example.com", "location": "a rack"},
    "shed": {"kind": "openai", "host": "b.example.com", "location": "a rack"},
    "open": {
        "kind": "openai",
        "host": "c.example.com",
        "location": "a rack",
        "credential": "none",
    },
}


@dataclass
class Desk:
    made: Bench
    credentials: UpstreamCredentials

    def credential(self, **changes: object) -> UpstreamCredential:
        publication = self.made.keys.current()
        plain = UpstreamCredential(
            publication.attestation_hash, "house", self.made.clock.now_ms(), KEY
        )
        return replace(plain, **changes)  # type: ignore[arg-type]  # checked there

    def push(
        self, credential: UpstreamCredential, operator: Ed25519PrivateKey = OPERATOR
    ) -> tuple[SealedRequest, UpstreamCredentialAnswer]:
        key = self.made.keys.current().manifest.hpke_keys[0]
        sealing_key = SealingKey(key.suite, key.public_key)
        sealed = seal_credential(credential, sealing_key, operator.sign)
        call = UpstreamCredentialCall(credential.attestation_hash, credential.upstream, sealed.wire)
        return sealed, self.credentials.answer(call)

    def refused(
        self, credential: UpstreamCredential, operator: Ed25519PrivateKey = OPERATOR
    ) -> ErrorCode:
        with pytest.raises(LatensgateError) as caught:
            self.push(credential, operator)
        assert KEY not in caught.value.detail
        return caught.value.code


@asynccontextmanager
async def desk() -> AsyncGenerator[Desk]:
    async with bench() as made:
        await made.open()
        deployment = msgspec.structs.replace(
            made.parts.configuration.deployment,
            upstreams=msgspec.convert(TABLES, dict[str, OpenAIUpstream]),
            upstream_operator_key=OPERATOR.public_key().public_bytes_raw().hex(),
        )
        log = made.parts.environment.events
        yield Desk(made, UpstreamCredentials(deployment, made.clock, made.keys, log))


@in_loop
async def test_a_credential_is_taken_confirmed_and_no_longer_missing() -> None:
    async with desk() as at:
        assert at.credentials.answer(UpstreamCredentialCall()).missing == "house,shed"
        with pytest.raises(LatensgateError) as caught:
            at.credentials.bearer("house")
        assert caught.value.code is ErrorCode.ERR_UPSTREAM_CREDENTIAL
        sealed, answer = at.push(at.credential())
        assert answer.missing == "shed"
        assert answer.confirmed is not None
        verify_confirmation(sealed.answer_secret, answer.confirmed)
        assert at.credentials.bearer("house") == KEY
        at.made.advance(1)
        _, last = at.push(at.credential(upstream="shed"))
        assert last.missing is None
        assert "event=UPSTREAM_CREDENTIAL_ACCEPTED" in at.made.log.getvalue()
        assert KEY not in at.made.log.getvalue()


@in_loop
async def test_a_parents_own_key_is_refused() -> None:
    async with desk() as at:
        foreign = Ed25519PrivateKey.generate()
        assert at.refused(at.credential(), foreign) is ErrorCode.ERR_FORBIDDEN
        with pytest.raises(LatensgateError):
            at.credentials.bearer("house")
        assert "event=UPSTREAM_CREDENTIAL_REFUSED code=701" in at.made.log.getvalue()


@in_loop
async def test_an_older_credential_never_replaces_a_newer_one() -> None:
    async with desk() as at:
        older = at.credential(secret="older")  # noqa: S106  # of nobody
        at.made.advance(1)
        at.push(at.credential())
        assert at.refused(older) is ErrorCode.ERR_REPLAY
        assert at.credentials.bearer("house") == KEY
        at.made.advance(1)
        at.push(at.credential(secret="newer"))  # noqa: S106  # of nobody
        assert at.credentials.bearer("house") == "newer"


@in_loop
async def test_the_same_bytes_are_taken_once() -> None:
    async with desk() as at:
        sealed, _ = at.push(at.credential())
        call = UpstreamCredentialCall(at.credential().attestation_hash, "house", sealed.wire)
        with pytest.raises(LatensgateError) as caught:
            at.credentials.answer(call)
        assert caught.value.code is ErrorCode.ERR_REPLAY


@pytest.mark.parametrize("beside_s", [-REQUEST_WINDOW_S - 1, REQUEST_WINDOW_S + 1])
def test_a_credential_of_another_time_is_refused(beside_s: int) -> None:
    @in_loop
    async def scenario() -> None:
        async with desk() as at:
            issued_at_ms = at.made.clock.now_ms() + 1000 * beside_s
            assert at.refused(at.credential(issued_at_ms=issued_at_ms)) is (
                ErrorCode.ERR_REQUEST_AGE
            )

    scenario()


@pytest.mark.parametrize("upstream", ["open", "nobody", "bedrock"])
def test_what_asks_no_credential_takes_none(upstream: str) -> None:
    @in_loop
    async def scenario() -> None:
        async with desk() as at:
            assert at.refused(at.credential(upstream=upstream)) is ErrorCode.ERR_NOT_FOUND

    scenario()


@in_loop
async def test_another_attestation_than_the_keys_own_is_refused() -> None:
    async with desk() as at:
        foreign = at.credential(attestation_hash="sha384:" + "cd" * 48)
        assert at.refused(foreign) is ErrorCode.ERR_OUTER_MISMATCH


@in_loop
async def test_a_deployment_without_upstreams_takes_none() -> None:
    async with bench() as made:
        await made.open()
        at = Desk(made, made.parts.upstream_credentials)
        assert at.credentials.answer(UpstreamCredentialCall()) == UpstreamCredentialAnswer()
        assert at.refused(at.credential()) is ErrorCode.ERR_FORBIDDEN
