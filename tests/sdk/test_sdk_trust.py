"""What a client is made with, data keys, conversations, receipts, and what stays unloaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

import latensgate
from e2e_client import TenantKey, tenant_key
from latensgate import (
    Boto3DataKeys,
    ConfidentialChatCompletion,
    ConfigurationError,
    DataKey,
    Latensgate,
    NoReceiptError,
    errors,
    receipt_of,
)
from latensgate.client_trust import Environment
from latensgate.conversation import conversation_secret
from latensgate.data_keys import DataKeyError
from latensgate.exchange_seal import ChatRequest
from latensgate.exchange_store import CALLS_MAX_BYTES, CALLS_MAX_COUNT, CallStore
from latensgate.state import installation_secret
from latensgate.verify import (
    AppraisalPolicy,
    Measurements,
    parse_untrusted_document,
    verify_attestation,
    verify_receipt,
)
from latensgate_shared import formats
from latensgate_shared.errors import ErrorCode
from paths import REPOSITORY
from sdk_gateway import API_KEY, Gateway
from stack import MODEL, Stack

MakeClient = Callable[..., Latensgate]
QUICKSTART = """
from latensgate import AsyncLatensgate, Latensgate, receipt_of

lg = Latensgate(tenant="tnt_a3f9c42b", timeout=30, max_retries=1)
response = lg.chat.completions.create(
    model="claude-3.5-sonnet",
    messages=[{"role": "user", "content": "Summarize the attached document."}],
)
attestation_hash: str = response.attestation_hash
audit_receipt_id: str = response.audit_receipt_id
text: str | None = response.choices[0].message.content
status: str = receipt_of(response).status
for chunk in lg.with_options(max_retries=2).chat.completions.create(
    model="claude-3.5-sonnet", messages=[{"role": "user", "content": "Hi"}], stream=True
):
    piece: str | None = chunk.choices[0].delta.content


async def ask(lg: AsyncLatensgate) -> str:
    response = await lg.chat.completions.create(
        model="claude-3.5-sonnet", messages=[{"role": "user", "content": "Hi"}]
    )
    return response.attestation_hash
"""


def ask(lg: Latensgate, text: str = "Hi") -> ConfidentialChatCompletion:
    return lg.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])


def test_type_checkers_are_content_with_the_quickstart(tmp_path: Path) -> None:
    (tmp_path / "quickstart.py").write_text(QUICKSTART)
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(REPOSITORY / "sdk/python")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "-p", str(tmp_path), "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_verifier_loads_no_http_client() -> None:
    program = (
        "import sys, latensgate, latensgate.verify;"
        "assert not {'openai', 'httpx', 'httpx2', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_name_is_there() -> None:
    assert set(latensgate.__all__) <= set(dir(latensgate))
    assert all(getattr(latensgate, name) for name in latensgate.__all__)
    with pytest.raises(AttributeError):
        latensgate.nothing  # noqa: B018 -- asked for


def test_nothing_is_sent_without_trust(make: MakeClient, gateway: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="trust"):
        make(measurements=None)
    with pytest.raises(ConfigurationError) as caught:
        make(
            measurements=None,
            tenant="x",
            policy={"a": object()},
            stream_shape={"pad": "fixed"},
            tenant_root="zz",
            min_settings_version=1,
            installation_secret=b"short",
        )
    faults = ("tenant:", "trust:", "policy:", "stream_shape:", "tenant_root:", "min_settings")
    for name in (*faults, "installation"):
        assert name in caught.value.detail
    assert gateway.asked == []


def test_options_that_lead_elsewhere_are_refused(make: MakeClient) -> None:
    with pytest.raises(ConfigurationError, match="data_residency"):
        make(data_residency="eu")


def test_carriers(make: MakeClient, gateway: Gateway) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        answer = gateway.client().request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx2.Response(
            answer.status_code, headers=dict(answer.headers), content=answer.content
        )

    carrier = httpx2.Client(transport=httpx2.MockTransport(handle))
    assert receipt_of(ask(make(http_client=carrier))).status == "simulated"
    for wrong in (object(), httpx.AsyncClient()):
        with pytest.raises(TypeError, match="http_client"):
            make(http_client=wrong)


def test_a_receipt_can_be_verified_later_from_its_export(lg: Latensgate, stack: Stack) -> None:
    receipt = receipt_of(ask(lg))
    exported = json.loads(receipt.to_json())
    document = formats.base64_bytes(exported["document"], "document", 1 << 16)
    manifest = formats.base64_bytes(exported["manifest"], "manifest", 1 << 16)
    pcrs = stack.process.device.measurements
    policy = AppraisalPolicy(
        measurements=(Measurements(pcrs.pcr0, pcrs.pcr1, pcrs.pcr2),),
        unsafe_accept_simulated_root_sha256=stack.world.nitro_root_sha256,
    )
    at = parse_untrusted_document(document).timestamp
    attestation = verify_attestation(document, manifest, policy=policy, at=at)
    verified = verify_receipt(
        exported["receipt"],
        attestation=attestation,
        tenant_id=exported["tenant_id"],
        request_hash=exported["request_hash"],
        response_hash=exported["response_hash"],
    )
    assert verified.signed.public.receipt_id == receipt.audit_receipt_id
    assert exported["attestation_hash"] == attestation.attestation_hash


def test_receipts_print_no_private_part(lg: Latensgate) -> None:
    receipt = receipt_of(ask(lg))
    assert str(receipt.private["request_id"]) not in repr(receipt)


@pytest.mark.parametrize("nothing", [None, "answer", object(), httpx.Response(200)])
def test_there_is_no_receipt_elsewhere(nothing: object) -> None:
    with pytest.raises(NoReceiptError):
        receipt_of(nothing)


class WorldKeys:
    """The application's own KMS key in the simulated world."""

    def __init__(self, key: TenantKey) -> None:
        self.key = key
        self.made = 0

    def data_key(self, key_arn: str, context: Mapping[str, str]) -> DataKey:
        assert key_arn == self.key.arn
        self.made += 1
        return DataKey(*self.key.data_key(context))


def test_bodies_under_the_tenants_own_key(make: MakeClient, stack: Stack) -> None:
    keys = WorldKeys(tenant_key(stack))
    lg = make(kms_key_arn=keys.key.arn, data_key_provider=keys)
    assert receipt_of(ask(lg)).outcome == "answered"
    assert keys.made == 1


def test_without_a_data_key_nothing_is_sent(
    make: MakeClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(errors.KMSDenied, match="boto3") as caught:
        ask(make(kms_key_arn=arn))
    assert caught.value.error_code is ErrorCode.ERR_KMS_ENVELOPE
    assert gateway.inferences == []


class FakeKMS:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def generate_data_key(self, **asked: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        assert asked["KeySpec"] == "AES_256"
        return self.answer


def test_data_keys_of_boto3() -> None:
    good = {"Plaintext": bytes(32), "CiphertextBlob": b"wrapped"}
    provider = Boto3DataKeys(FakeKMS(good))
    assert provider.data_key("arn", {}) == DataKey(bytes(32), b"wrapped")
    assert "wrapped" not in repr(provider.data_key("arn", {}))
    for bad in ({"Plaintext": "text", "CiphertextBlob": b""}, {}, RuntimeError("secret")):
        with pytest.raises(DataKeyError) as caught:
            Boto3DataKeys(FakeKMS(bad)).data_key("arn", {})
        assert "secret" not in str(caught.value)
    made = Boto3DataKeys()
    arn = "arn:aws:kms:eu-west-1:111122223333:key/12345678-1234-1234-1234-123456789012"
    with pytest.MonkeyPatch.context() as patch:
        asked: list[object] = []

        def client(name: str, region_name: str | None) -> FakeKMS:
            asked.append((name, region_name))
            return FakeKMS(good)

        patch.setattr("boto3.client", client)
        made.data_key(arn, {})
        made.data_key(arn, {})
        assert asked == [("kms", "eu-west-1")]


def chat(*messages: Any) -> ChatRequest:  # noqa: ANN401 -- messages as an application writes them
    return ChatRequest(b"{}", MODEL, False, {"messages": list(messages)})  # noqa: FBT003 -- as parsed


def test_conversations() -> None:
    secret, user = bytes(32), {"role": "user", "content": "a"}
    first = chat({"role": "system", "content": "s"}, user)
    later = chat({"role": "system", "content": "s"}, user, {"role": "user", "content": "b"})
    one = conversation_secret(secret, "tnt_00000001", None, first)
    assert one is not None
    assert len(one) == 32
    assert conversation_secret(secret, "tnt_00000001", None, later) == one
    assert conversation_secret(secret, "tnt_00000002", None, first) != one
    assert conversation_secret(b"x" * 32, "tnt_00000001", None, first) != one
    assert conversation_secret(secret, "tnt_00000001", None, chat(user)) != one
    named = conversation_secret(secret, "tnt_00000001", "a", first)
    assert named not in {one, None}
    assert conversation_secret(secret, "tnt_00000001", "a", chat()) == named
    assert conversation_secret(None, "tnt_00000001", "a", first) is None
    assert conversation_secret(secret, "tnt_00000001", None, chat({"n": 2**60})) is None


def test_the_installation_secret_is_kept(tmp_path: Path) -> None:
    made = installation_secret(tmp_path / "state")
    assert made is not None
    assert installation_secret(tmp_path / "state") == made
    path = tmp_path / "state/installation.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"damaged")
    again = installation_secret(tmp_path / "state")
    assert again is not None
    assert again != made
    (tmp_path / "file").write_text("")
    assert installation_secret(tmp_path / "file") is None


def test_settings_of_the_tenant_are_sealed(make: MakeClient) -> None:
    with pytest.raises(errors.UnprocessableRequest) as caught:
        ask(make(tenant_root="ab" * 32, min_settings_version=3))
    assert caught.value.error_code is ErrorCode.ERR_SETTINGS_REFUSED  # of a later release


def test_copies_in_a_conversation(lg: Latensgate, gateway: Gateway) -> None:
    ask(lg.in_conversation("case 4711"))
    ask(lg)
    assert len(gateway.attestations) == 1
    assert all(b"4711" not in asked.body for asked in gateway.asked)


def test_open_calls_are_bounded(environment: Environment) -> None:
    del environment
    now = datetime.now(UTC)
    store = CallStore(lambda _: now)
    for number in range(CALLS_MAX_COUNT + 5):
        store.begin(f"key{number}", b"digest", now)
    assert len(store) == CALLS_MAX_COUNT
    first = store.begin("key9", b"digest", now)
    assert store.begin("key9", b"digest", now) is first
    other = store.begin("key9", b"other", now)
    assert other is not first
    store.end(first)  # of another request by now: nothing is forgotten
    assert store.begin("key9", b"other", now) is other
    store.end(other)
    assert store.begin("key9", b"other", now) is not other


class Heavy:
    body = bytes(CALLS_MAX_BYTES // 2 + 1)


def test_sealed_bytes_are_bounded_in_size_and_time() -> None:
    now = datetime.now(UTC)
    later = datetime.fromtimestamp(now.timestamp() + 10, UTC)
    store = CallStore(lambda _: later)
    sealed: Any = Heavy()
    for key in ("a", "b", "c"):
        store.begin(key, b"", now).sealed = sealed
    store.begin("d", b"", now)
    assert len(store) == 2
    store.begin("e", b"", later)
    assert len(store) == 2  # what was sealed to ended keys is gone


def test_long_keys_have_room_for_a_round(environment: Environment) -> None:
    del environment
    now = datetime.now(UTC)
    call = CallStore(lambda _: now).begin("k" * 255, b"", now)
    assert call.wire_key == "k" * 255
    call = replace(call, round=3)
    assert call.wire_key == "k" * 253 + ".3"


def test_the_key_is_the_one_that_was_given(lg: Latensgate) -> None:
    assert lg.api_key == API_KEY
