"""One fake server of OpenAI's interface, over TLS: the same bytes for every gateway before it.

It does as little as it can, so that it is never what the others wait for: everything it sends is
made before. A model named ``paced`` sends a token each few milliseconds, as models do; any other
one sends them as fast as they leave, each in a write and a TLS record of its own.

Run as ``rivals_upstream.py CERTIFICATE``; it prints its port.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Iterator
from typing import Any, Final, cast

import uvloop

TOKENS: Final = 64
PACED: Final = "paced"
PACE_S: Final = 0.004
_HEAD_END: Final = b"\r\n\r\n"
_HEAD: Final[dict[str, object]] = {"id": "chatcmpl-bench", "created": 1_790_000_000}
_JSON: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_SSE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def token(number: int) -> str:
    """Return the text of one token; each is told apart."""
    return f" w{number:03d}"


FIRST_TOKEN: Final = token(0)


def _usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": 250,
        "completion_tokens": tokens,
        "total_tokens": 250 + tokens,
    }


def whole(model: str, tokens: int) -> bytes:
    """Return an answer that is no stream."""
    text = "".join(map(token, range(tokens)))
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    told = {**_HEAD, "object": "chat.completion", "model": model, "choices": [choice]}
    body = json.dumps({**told, "usage": _usage(tokens)}).encode()
    return _JSON % (len(body), body)


def pieces(model: str, tokens: int, *, usage: bool) -> list[bytes]:
    """Return what is written for a stream, in order."""
    head = {**_HEAD, "object": "chat.completion.chunk", "model": model}

    def event(delta: dict[str, object], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _chunked(json.dumps({**head, "choices": [choice]}))

    last = event({}, "stop")
    if usage:
        last += _chunked(json.dumps({**head, "choices": [], "usage": _usage(tokens)}))
    first = _SSE + event({"role": "assistant", "content": ""})
    texts = [event({"content": token(number)}) for number in range(tokens)]
    return [first, *texts, last + _chunked("[DONE]") + b"0\r\n\r\n"]


def _chunked(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


def body_of(head: bytes, rest: bytes) -> bytes | None:
    """Return a request's body once it is whole. Portkey sends chunks, the others a length."""
    _, name, after = head.partition(b"content-length:")
    if name:
        return rest if len(rest) >= int(after.partition(b"\r\n")[0]) else None
    if not rest.endswith(b"0\r\n\r\n"):
        return None
    body = b""
    while not rest.startswith(b"0\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


class Server(asyncio.Protocol):
    """One connection; a request at a time."""

    def __init__(self, made: dict[tuple[object, ...], list[bytes]]) -> None:
        self._made = made
        self._buffer = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = bytes(self._buffer).partition(_HEAD_END)
        body = body_of(head.lower(), rest) if end else None
        if body is not None:
            self._buffer.clear()  # nobody here sends a request before the answer to the last one
            self._answer(cast("dict[str, Any]", json.loads(body)))

    def _answer(self, asked: dict[str, Any]) -> None:
        model = str(asked["model"])
        tokens = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or TOKENS)
        if not asked.get("stream"):
            self._transport.write(self._kept(model, tokens, None)[0])
            return
        options = cast("dict[str, Any]", asked.get("stream_options") or {})
        usage = bool(options.get("include_usage"))
        rest = iter(self._kept(model, tokens, usage))
        self._transport.write(next(rest))
        self._next(rest, PACE_S if model == PACED else 0.0)

    def _kept(self, model: str, tokens: int, usage: bool | None) -> list[bytes]:  # noqa: FBT001 -- a key
        key = (model, tokens, usage)
        if key not in self._made:
            self._made[key] = (
                [whole(model, tokens)] if usage is None else pieces(model, tokens, usage=usage)
            )
        return self._made[key]

    def _next(self, rest: Iterator[bytes], pace_s: float) -> None:
        """Write one piece, and the next one later or in the next turn of the loop."""
        piece = next(rest, None)
        if piece is None or self._transport.is_closing():
            return
        self._transport.write(piece)
        loop = asyncio.get_running_loop()
        if pace_s:
            loop.call_later(pace_s, self._next, rest, pace_s)
        else:
            loop.call_soon(self._next, rest, pace_s)


async def serve(certificate: str) -> None:
    """Serve until the process is ended."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    made: dict[tuple[object, ...], list[bytes]] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(made), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
