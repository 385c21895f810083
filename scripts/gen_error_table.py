"""Print docs/spec/errors.md: every code with its facts, as they stand in the one enumeration.

    python scripts/gen_error_table.py > docs/spec/errors.md

A test compares the page with what this prints, so neither can change without the other.
"""

from __future__ import annotations

from latensgate_shared.errors import ErrorCode

HEAD = """# Error codes

Written by `scripts/gen_error_table.py` from `shared/latensgate_shared/errors.py`.

The name is what crosses a boundary (`code`); the set is closed, and a client that meets another
name treats the message as malformed. Number: unique, for logs; the hundreds name the part that
speaks. Type: `error.type`, as OpenAI clients know it. Retry: whether the same request may succeed
later without a change; `ERR_KEY_STALE` wants a new seal first. HTTP status, type, retry and hint
follow from the code alone, so a client derives them from the code inside the seal.
"""
BLOCKS = {
    1: "sealed protocol and wire formats",
    2: "attestation and receipts",
    3: "KMS and enclave keys",
    4: "the request itself",
    5: "personal data and policy",
    6: "upstream",
    7: "authentication, limits, idempotency",
    8: "transport between parent and enclave, overload",
    9: "everything that should not happen",
}


def block(hundreds: int) -> str:
    """Return the section of one block of numbers."""
    rows = [
        f"| {code.number} | `{code.name}` | {code.http_status} | `{code.openai_type}` "
        f"| {'yes' if code.retryable else 'no'} | {code.hint} |"
        for code in ErrorCode
        if code.number // 100 == hundreds
    ]
    head = ["| number | code | HTTP | type | retry | hint |", "|---|---|---|---|---|---|"]
    return "\n".join(["", f"## {hundreds}00: {BLOCKS[hundreds]}", "", *head, *rows, ""])


def page() -> str:
    """Return the whole page.

    Raises:
        KeyError: A code stands in a block that has no name here.
    """
    return HEAD + "".join(
        block(hundreds) for hundreds in sorted({c.number // 100 for c in ErrorCode})
    )


if __name__ == "__main__":
    print(page(), end="")
