"""The conversation secret (DESIGN 7a): stable within a conversation, told to the enclave alone.

The enclave derives surrogates from it, so that the same name has the same surrogate in every turn.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from latensgate_shared.errors import MalformedError
from latensgate_shared.jcs import canonicalize

if TYPE_CHECKING:
    from latensgate.exchange_seal import ChatRequest
    from latensgate_shared.strict_json import JSONValue

_LABEL: Final = b"latensgate/1 conversation\x00"


def conversation_secret(
    installation: bytes | None, tenant: str, name: str | None, chat: ChatRequest
) -> bytes | None:
    """Return 32 bytes for a conversation, or None where it cannot be told from others.

    Args:
        installation: Secret of this installation, or one that replicas share.
        tenant: ``tnt_`` and 8 hex digits.
        name: The application's own name of the conversation; without one, the messages up to and
            including the first of the user stand for it.
        chat: The request.
    """
    if installation is None:
        return None
    begins: JSONValue = _beginning(chat.messages.get("messages")) if name is None else name
    try:
        told = canonicalize({"tenant": tenant, "conversation": begins})
    except MalformedError:
        return None
    return hmac.digest(installation, _LABEL + told, "sha256")


def _beginning(messages: JSONValue) -> list[JSONValue]:
    beginning: list[JSONValue] = []
    for message in messages if isinstance(messages, list) else []:
        beginning.append(message)
        if isinstance(message, dict) and message.get("role") == "user":
            break
    return beginning
