"""Proxies, private authorities, and the proof that can be asked for by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from latensgate import AsyncLatensgate, AttestationProof, Latensgate, errors, receipt_of
from latensgate.cli.chat_ask import AskError, SealedAsker
from latensgate.cli.doctor_findings import FoundError
from latensgate.cli.doctor_network import Road
from latensgate.config import Wanted
from latensgate.gateway import GatewayAddress
from latensgate.verify import ConfigurationError, VerificationError
from latensgate_shared.errors import ErrorCode
from sdk_gateway import Gateway, refusal, served
from stack import MODEL
from tls_ways import HOST, Authority, Proxy, authority, connect_proxy

MakeClient = Callable[..., Latensgate]
MakeAsyncClient = Callable[..., AsyncLatensgate]
ASK: Any = {"model": MODEL, "messages": [{"role": "user", "content": "The word is xylophone."}]}


def whole_run(lg: Latensgate) -> None:
    """Models, proof, answer, stream and receipts."""
    assert [model.id for model in lg.models.list()] == [MODEL]
    assert lg.attest().status == "simulated"
    create: Any = lg.chat.completions.create
    assert receipt_of(create(**ASK)).outcome == "answered"
    stream = create(**ASK, stream=True)
    assert list(stream)
    assert receipt_of(stream).outcome == "answered"


@pytest.fixture
def private(tmp_path: Path) -> Authority:
    return authority(tmp_path / "authority")


@pytest.fixture
def secure(gateway: Gateway, private: Authority) -> Iterator[str]:
    """The gateway behind TLS."""
    with served(gateway, private.server) as base_url:
        yield base_url


@pytest.fixture
def proxy(secure: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with connect_proxy(urlsplit(secure).port or 0) as running:
        monkeypatch.setenv("HTTPS_PROXY", running.address)
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield running


def test_a_whole_run_through_a_proxy_and_a_private_authority(
    make: MakeClient, proxy: Proxy, private: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(private.ca_file))
    lg = make(base_url=f"https://{HOST}", http_client=None)
    whole_run(lg)
    lg.close()
    assert set(proxy.asked) == {f"CONNECT {HOST}:443"}
    assert b"lg_test_" not in proxy.passed
    assert b"xylophone" not in proxy.passed


def test_a_whole_run_of_tasks_through_them(
    make_async: MakeAsyncClient,
    proxy: Proxy,
    private: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(private.ca_file))

    async def run() -> None:
        async with make_async(base_url=f"https://{HOST}", http_client=None) as lg:
            assert (await lg.attest()).status == "simulated"
            create: Any = lg.chat.completions.create
            answer: Any = await create(**ASK)
            assert receipt_of(answer).outcome == "answered"

    asyncio.run(run())
    assert set(proxy.asked) == {f"CONNECT {HOST}:443"}


def test_a_private_authority_by_a_client_of_ones_own(
    make: MakeClient, secure: str, private: Authority
) -> None:
    context = ssl.create_default_context(cafile=private.ca_file)
    with httpx.Client(verify=context) as own:
        whole_run(make(base_url=secure, http_client=own))


def test_an_authority_that_is_not_known_is_refused(
    make: MakeClient, secure: str, gateway: Gateway
) -> None:
    lg = make(base_url=secure, http_client=None, max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        lg.chat.completions.create(**ASK)
    with pytest.raises(openai.APIConnectionError):
        lg.attest()
    lg.close()
    assert gateway.asked == []


def test_the_command_line_takes_an_authority(
    secure: str,
    private: Authority,
    arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LATENSGATE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("LATENSGATE_STATE_DIR", str(tmp_path / "state"))
    registers = "\n".join(
        f'{name} = "{value}"' for name, value in arguments["measurements"][0].items()
    )
    (tmp_path / "config.toml").write_text(
        f'[[gateways]]\nbase_url = "{secure}"\ntenant = "{arguments["tenant"]}"\n'
        f'simulated_root_sha256 = "{arguments["simulated_root_sha256"]}"\n'
        f"[[gateways.measurements]]\n{registers}\n"
    )
    wanted = Wanted(api_key=arguments["api_key"], simulated=True, ca_file=private.ca_file)
    asker = SealedAsker(wanted)
    assert asker.prove().status == "simulated"
    asker.close()
    stranger = SealedAsker(dataclasses.replace(wanted, ca_file=None))
    with pytest.raises(AskError, match="does not answer"):
        stranger.prove()
    stranger.close()
    with pytest.raises(ConfigurationError, match="CA file"):
        SealedAsker(dataclasses.replace(wanted, ca_file=tmp_path / "none.pem"))
    address = GatewayAddress.parse(secure)
    assert "TLSv1.3" in Road(address, private.ca_file).handshake()
    with pytest.raises(FoundError, match="TLS failed"):
        Road(address).handshake()


# --- the proof ---


def test_a_proof_is_fresh_typed_and_held(lg: Latensgate, gateway: Gateway) -> None:
    proof = lg.attest()
    assert isinstance(proof, AttestationProof)
    create: Any = lg.chat.completions.create
    answer: Any = create(**ASK)
    assert answer.attestation_hash == proof.attestation_hash
    receipt = receipt_of(answer)
    assert receipt.public.key_id == proof.key_id
    assert (receipt.document, receipt.manifest) == (proof.document, proof.manifest)
    assert proof.enclave_image_sha.startswith("sha384:")
    assert proof.attested_at < proof.renew_at < proof.sealable_until
    assert proof.suite == "xwing"
    assert "document=" not in repr(proof)
    with pytest.raises(dataclasses.FrozenInstanceError):
        proof.status = "verified"  # type: ignore[misc]  # what is tried
    assert len(gateway.attestations) == 1
    lg.attest()
    assert len(gateway.attestations) == 2
    assert all("authorization" not in asked.headers for asked in gateway.attestations)


def test_a_proof_that_fails_says_at_which_step(make: MakeClient, gateway: Gateway) -> None:
    lg = make(measurements=[dict.fromkeys(("PCR0", "PCR1", "PCR2"), "ab" * 48)])
    with pytest.raises(errors.AttestationError) as caught:
        lg.attest()
    assert isinstance(caught.value.__cause__, VerificationError)
    assert caught.value.__cause__.step == 10
    gateway.twist = lambda _asked, _told: refusal(
        ErrorCode.ERR_RATE_LIMITED, **{"retry-after": "7"}
    )
    with pytest.raises(errors.RateLimited) as limited:
        lg.attest()
    assert limited.value.retry_after_s == 7


def test_a_proof_waits_no_longer_than_the_client(
    make: MakeClient, make_async: MakeAsyncClient
) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        assert request.extensions["timeout"]["read"] == 0.5
        raise httpx.ReadTimeout("slow", request=request)

    transport = httpx.MockTransport(slow)
    with httpx.Client(transport=transport) as own, pytest.raises(openai.APITimeoutError):
        make(http_client=own, timeout=0.5).attest()

    async def run() -> None:
        async with (
            httpx.AsyncClient(transport=transport) as carrier,
            make_async(http_client=carrier, timeout=openai.Timeout(0.5)) as lg,
        ):
            with pytest.raises(openai.APITimeoutError):
                await lg.attest()

    asyncio.run(run())


def test_a_proof_of_tasks_fails_alike(make_async: MakeAsyncClient) -> None:
    async def run() -> None:
        wrong = [dict.fromkeys(("PCR0", "PCR1", "PCR2"), "ab" * 48)]
        async with make_async(measurements=wrong) as lg:
            with pytest.raises(errors.AttestationError):
                await lg.attest()

    asyncio.run(run())
