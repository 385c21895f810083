"""The NSM behind a path: character device or socket, and everything that is neither."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from latensgate_enclave.nitro.device import open_nsm
from latensgate_enclave.nitro.nsm import NSMError
from latensgate_shared.limits import NSM_RESPONSE_MAX_BYTES


@contextmanager
def device(path: Path, answer: bytes) -> Generator[list[bytes]]:
    """Serve one connection that reads a request and writes `answer` in two pieces."""
    requests: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            length = int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")
            requests.append(peer.recv(length, socket.MSG_WAITALL))
            peer.sendall(answer[:3])
            peer.sendall(answer[3:])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield requests
    finally:
        thread.join(5)
        listener.close()


def test_a_socket_answers_with_its_messages(tmp_path: Path) -> None:
    answer = b"answer" * 100
    with device(tmp_path / "nsm", len(answer).to_bytes(4, "big") + answer) as requests:
        assert open_nsm(tmp_path / "nsm")(b"question") == answer
    assert requests == [b"question"]


@pytest.mark.parametrize("answer", [b"", b"\0\0", b"\0\0\0\7short"])
def test_a_cut_answer_is_refused(tmp_path: Path, answer: bytes) -> None:
    with device(tmp_path / "nsm", answer), pytest.raises(NSMError, match="cut short"):
        open_nsm(tmp_path / "nsm")(b"question")


def test_an_answer_longer_than_the_device_gives_is_refused(tmp_path: Path) -> None:
    answer = (NSM_RESPONSE_MAX_BYTES + 1).to_bytes(4, "big")
    with device(tmp_path / "nsm", answer), pytest.raises(NSMError, match="12289 bytes"):
        open_nsm(tmp_path / "nsm")(b"question")


def test_a_socket_that_nobody_serves_is_a_typed_error(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "nsm"))
    listener.close()
    with pytest.raises(NSMError, match=r"^NSM: no answer, errno 111$"):
        open_nsm(tmp_path / "nsm")(b"question")


def test_a_character_device_is_asked_by_its_own_call() -> None:
    call = open_nsm(Path("/dev/null"))  # a device, but none that knows the call: ENOTTY
    with pytest.raises(NSMError, match="errno 25"):
        call(b"question")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NSMError, match="a character device or a socket expected"):
        open_nsm(tmp_path / "file")
    with pytest.raises(NSMError, match=r"^NSM: cannot be opened, errno 2$"):
        open_nsm(tmp_path / "absent")
