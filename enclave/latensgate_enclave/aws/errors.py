"""The name of an AWS error, out of the three places where AWS may write it.

Only the name is taken, never the message: messages quote ARNs, account ids and prompts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import AWS_ANSWER_MAX_BYTES
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from latensgate_enclave.http1 import HttpResponse

_NAME: Final = re.compile(r"[A-Za-z]{1,64}")
UNNAMED: Final = "an unnamed error"


def error_name(response: HttpResponse) -> str:
    """Return the error's name as in ``ThrottlingException``, or ``UNNAMED``.

    AWS JSON 1.1 writes it to ``__type`` with a namespace in front, REST JSON to the field
    ``x-amzn-errortype`` with an address behind; a body that is not JSON names nothing.
    """
    name = response.headers.get("x-amzn-errortype") or _body_type(response.body)
    return clean_name(name)


def clean_name(name: str) -> str:
    """Cut namespace and address off a name; what is no name then is ``UNNAMED``."""
    name = name.rpartition("#")[2].partition(":")[0]
    return name if _NAME.fullmatch(name) else UNNAMED


def _body_type(body: bytes) -> str:
    try:
        members = parse_json_object(body, max_bytes=AWS_ANSWER_MAX_BYTES)
    except MalformedError:
        return ""
    name = members.get("__type")
    return name if isinstance(name, str) else ""
