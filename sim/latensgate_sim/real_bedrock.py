"""Sends what the simulated Bedrock is asked on to the real one, with the developer's credentials.

Everything else stays simulated: the enclave still speaks to a server of the simulator's authority,
so nothing that it states becomes more than `simulated`. The body passes through as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from latensgate_sim.errors import AWSError
from latensgate_sim.http_server import Request, Response

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from botocore.credentials import Credentials

ENDPOINT: Final = "https://bedrock-runtime.{region}.amazonaws.com"
TIMEOUT_S: Final = 300.0
_PASSED: Final = ("content-type", "x-amzn-requestid", "x-amzn-errortype")


class CredentialsSource(Protocol):
    """As boto3's session is one: credentials that renew themselves, or None."""

    def get_credentials(self) -> Credentials | None:
        """Return them."""
        ...


class BedrockForwarder:
    """Signs and sends requests of the runtime.

    Args:
        source: The developer's own AWS credentials.
        endpoint: Where to, with ``{region}``; tests name another.
        tls: Who may answer; the system's roots if None.
    """

    def __init__(
        self,
        source: CredentialsSource,
        *,
        endpoint: str = ENDPOINT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._source = source
        self._endpoint = endpoint
        self._client = httpx.AsyncClient(verify=tls or True, timeout=TIMEOUT_S)

    async def send(self, region: str, request: Request) -> Response:
        """Return the real answer; a stream passes piece by piece.

        Raises:
            AWSError: No credentials, or no answer.
        """
        url = self._endpoint.format(region=region) + request.target
        headers = self._sign(region, request, url)
        sent = self._client.build_request(
            request.method, url, headers=headers, content=request.body
        )
        try:
            answer = await self._client.send(sent, stream=True)
        except httpx.HTTPError as error:
            raise AWSError(503, "ServiceUnavailableException", "no answer of AWS") from error
        passed = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
        if "eventstream" in passed.get("content-type", ""):
            return Response(answer.status_code, passed, _pieces(answer))
        return Response(answer.status_code, passed, await answer.aread())

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    def _sign(self, region: str, request: Request, url: str) -> dict[str, str]:
        try:
            credentials = self._source.get_credentials()
        except BotoCoreError as error:
            raise AWSError(403, "UnrecognizedClientException", str(error)) from error
        if credentials is None:
            raise AWSError(403, "UnrecognizedClientException", "no AWS credentials were found")
        headers = {
            "Content-Type": "application/json",
            "Accept": request.headers.get("accept", "*/*"),
        }
        signed = AWSRequest(request.method, url, headers=headers, data=request.body)
        SigV4Auth(credentials.get_frozen_credentials(), "bedrock", region).add_auth(signed)
        return dict(signed.headers.items())


async def _pieces(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
