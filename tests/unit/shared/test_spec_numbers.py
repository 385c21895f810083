"""The numbers that the specification states are those of `limits`."""

from __future__ import annotations

import pytest

from latensgate_shared import limits
from paths import REPOSITORY

STATED = {
    "http.md": {
        "from 50 min | attest again": limits.SDK_RENEW_AFTER_S == 50 * 60,
        f"up to 50 min ({limits.SDK_RENEW_AFTER_S:,} s)": True,
        f"from 70 min ({limits.SDK_STOP_AFTER_S:,} s)": limits.SDK_STOP_AFTER_S == 70 * 60,
        "75 min (`not_after`)": limits.MANIFEST_LIFETIME_S == 75 * 60,
        f"more than {limits.NONCE_DOCUMENTS_PER_S} requests with a nonce a second": True,
        f"1 to {limits.IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII": True,
        f"for {limits.IDEMPOTENCY_RECORD_S // 3600} h": True,
        f"at most {limits.CHUNK_FRAMED_MAX_BYTES:,} decoded": True,
        f"the window of {limits.REQUEST_WINDOW_S} s": True,
        f"`received` + {limits.ATTESTATION_DOCUMENT_SKEW_S} s": True,
        f"at most {limits.ATTESTATION_DOCUMENT_SKEW_S} s in the future": True,
        f"{limits.ENCLAVE_ACCEPT_MS:,} ms, then": True,
        f"{limits.SEALED_BODY_MAX_BYTES // limits.MIB} MiB; decoded sealed request "
        f"{limits.SEALED_REQUEST_MAX_BYTES // limits.MIB} MiB": True,
    },
    "wire.md": {
        f"({limits.SEALED_REQUEST_MAX_BYTES:,} bytes)": True,
        f"at most {limits.SEALED_REQUEST_CHUNKS_MAX_COUNT:,} non-final chunks": True,
        f"at most {limits.SEALED_ANSWER_CHUNKS_MAX_COUNT:,} of them": True,
        f"| {limits.JSON_MAX_VALUES:,} | `ERR_TOO_LARGE`": True,
        f"| {limits.JSON_MAX_DEPTH} | `ERR_MALFORMED`": True,
        f"| {limits.JSON_INTEGER_MAX_CHARS} | `ERR_MALFORMED`": True,
        f"at most {limits.JSON_TEXT_MEMBERS_MAX_COUNT} members": True,
        f"more than {limits.REQUEST_WINDOW_S} s off": True,
        f"Messages: 1 to {limits.CHAT_MESSAGES_MAX_COUNT:,},": True,
        f"{limits.PII_TEXT_MAX_CHARS:,} characters, all scanned texts together "
        f"{limits.PII_REQUEST_MAX_CHARS:,}": True,
        f"the texts of the answer together {limits.PII_ANSWER_MAX_CHARS:,}": True,
    },
    "key-policy.md": {f"at most {limits.KMS_KEY_POLICY_MAX_BYTES:,} bytes": True},
    "frames.md": {
        f"1 to {limits.FRAME_MAX_BYTES:,}": True,
        f"At most {limits.CALLS_MAX_OPEN:,} calls": True,
    },
}


@pytest.mark.parametrize(
    ("page", "sentence", "holds"),
    [(page, sentence, holds) for page, said in STATED.items() for sentence, holds in said.items()],
)
def test_page_states_the_limit(page: str, sentence: str, holds: bool) -> None:  # noqa: FBT001  # a case
    text = " ".join((REPOSITORY / "docs" / "spec" / page).read_text().split())

    assert holds
    assert sentence in text
