"""A chat as an application has it, over a gateway and a real enclave."""

from __future__ import annotations

from latensgate import ConfidentialChatCompletion, Latensgate, receipt_of
from sdk_gateway import Gateway
from stack import MODEL

ASK = "The word is xylophone."


def ask(lg: Latensgate, text: str = ASK) -> ConfidentialChatCompletion:
    return lg.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])


def test_an_answer_comes_back(lg: Latensgate, gateway: Gateway) -> None:
    answer = ask(lg)
    assert answer.choices[0].message.content
    receipt = receipt_of(answer)
    assert receipt.status == "simulated"
    assert receipt.attestation_hash == answer.attestation_hash
    assert receipt.audit_receipt_id == answer.audit_receipt_id
    assert all(b"xylophone" not in asked.body for asked in gateway.asked)
    assert len(gateway.attestations) == 1
    ask(lg)
    assert len(gateway.attestations) == 1


def test_a_stream_comes_back(lg: Latensgate) -> None:
    stream = lg.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASK}], stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == ask(lg).choices[0].message.content
    assert receipt_of(stream).outcome == "answered"
