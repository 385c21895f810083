"""Bedrock's control plane (invocation logging) and STS (who am I)."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from latensgate_sim.bedrock import error_response
from latensgate_sim.errors import AWSError
from latensgate_sim.faults import FaultSwitch, strike
from latensgate_sim.http_server import Request, Response

if TYPE_CHECKING:
    from latensgate_sim.sigv4 import SigV4Checker

_LOGGING_ON: Final = {
    "cloudWatchConfig": {
        "logGroupName": "bedrock-invocations",
        "roleArn": "arn:aws:iam::000000000000:role/BedrockLogging",
    },
    "textDataDeliveryEnabled": True,
    "imageDataDeliveryEnabled": True,
    "embeddingDataDeliveryEnabled": True,
}
_STS_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
_STS_CODES: Final = {
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "ExpiredTokenException": "ExpiredToken",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "IncompleteSignatureException": "IncompleteSignature",
}
"""STS has older names for the same refusals."""


@dataclass(slots=True)
class BedrockControl:
    """``GetModelInvocationLoggingConfiguration`` of one Region.

    Attributes:
        checker: Who signed.
        logging_accounts: Accounts that log invocations; change it while running.
        faults: Switches for tests.
    """

    checker: SigV4Checker
    logging_accounts: set[str] = field(default_factory=set[str])
    faults: FaultSwitch = field(default_factory=FaultSwitch)

    async def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        try:
            identity = self.checker.verify(request)
            _demand((request.method, request.path) == ("GET", "/logging/modelinvocations"))
            instead = await strike(self.faults.take("GetModelInvocationLoggingConfiguration"))
            if instead is not None:
                return instead
        except AWSError as error:
            return error_response(error)
        logs = identity.account in self.logging_accounts
        answer: dict[str, object] = {"loggingConfig": _LOGGING_ON} if logs else {}
        headers = {"Content-Type": "application/json", "x-amzn-RequestId": str(uuid.uuid4())}
        return Response(200, headers, json.dumps(answer).encode())


@dataclass(slots=True)
class STS:
    """``GetCallerIdentity`` (query protocol, XML).

    Attributes:
        checker: Who signed.
        faults: Switches for tests.
    """

    checker: SigV4Checker
    faults: FaultSwitch = field(default_factory=FaultSwitch)

    async def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        try:
            identity = self.checker.verify(request)
            action = parse_qs(request.body.decode("latin-1")).get("Action")
            _demand(action == ["GetCallerIdentity"])
            instead = await strike(self.faults.take("GetCallerIdentity"))
            if instead is not None:
                return instead
        except AWSError as error:
            return _sts_error(error)
        fields = {
            "Arn": identity.caller_arn,
            "UserId": identity.user_id,
            "Account": identity.account,
        }
        result = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        body = f"<GetCallerIdentityResult>{result}</GetCallerIdentityResult>"
        return _xml(200, "GetCallerIdentityResponse", body, metadata=True)


def _demand(known: bool) -> None:  # noqa: FBT001 -- reads as a sentence
    if not known:
        raise AWSError(404, "UnknownOperationException", "Could not find operation")


def _sts_error(error: AWSError) -> Response:
    code = _STS_CODES.get(error.code, error.code)
    inner = f"<Code>{escape(code)}</Code><Message>{escape(error.message or '')}</Message>"
    body = f"<Error><Type>Sender</Type>{inner}</Error>"
    return _xml(error.status, "ErrorResponse", body, metadata=False)


def _xml(status: int, root: str, body: str, *, metadata: bool) -> Response:
    request_id = str(uuid.uuid4())
    tail = f"<RequestId>{request_id}</RequestId>"
    if metadata:
        tail = f"<ResponseMetadata>{tail}</ResponseMetadata>"
    text = f'<{root} xmlns="{_STS_NAMESPACE}">{body}{tail}</{root}>'
    return Response(
        status, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id}, text.encode()
    )
