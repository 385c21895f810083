"""The parent's byte tunnel: one line each way, then bytes; trusted with nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from enclave_doubles import in_loop
from latensgate_enclave.egress import EgressError
from latensgate_enclave.nitro.vsock import UnixAddress
from latensgate_enclave.tunnel import TunnelDial


async def dial(path: Path, answer: bytes) -> tuple[bytes, bytes]:
    """Dial through a tunnel that answers so; return the line it got and one byte behind."""
    lines: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(tunnel, path)
    try:
        reader, writer = await TunnelDial(UnixAddress(str(path)))("kms.example", 443)
        try:
            return lines[0], await reader.read()
        finally:
            writer.transport.abort()
    finally:
        server.close()
        await asyncio.sleep(0.01)


def test_a_granted_line_leads_to_the_bytes(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        line, behind = await dial(tmp_path / "s", b"OK\nbytes of the host")
        assert line == b"CONNECT kms.example:443\n"
        assert behind == b"bytes of the host"

    scenario()


@pytest.mark.parametrize("answer", [b"ERR not allowed\n", b"O", b"", b"OK "])
def test_everything_else_is_a_refusal(tmp_path: Path, answer: bytes) -> None:
    @in_loop
    async def scenario() -> None:
        with pytest.raises(EgressError, match="the tunnel refuses") as caught:
            await dial(tmp_path / "s", answer)
        assert caught.value.nothing_sent

    scenario()


def test_an_absent_tunnel_is_a_typed_error(tmp_path: Path) -> None:
    @in_loop
    async def scenario() -> None:
        with pytest.raises(EgressError, match="cannot connect") as caught:
            await TunnelDial(UnixAddress(str(tmp_path / "absent")))("kms.example", 443)
        assert caught.value.nothing_sent

    scenario()
