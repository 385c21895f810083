"""Runs as root in a test's image, beside the enclave: says what is inside, and plays with vsock.

The kernel of that image starts this in place of init (``rdinit=``). It forks: the parent becomes
the real init, the child answers tests. So the test's image measures differently from every image
that a client accepts, and the image that is shipped has no such door.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import stat
import threading
import time
from typing import Any

PORT = 5_999
ECHO_PORT = 5_998
PARENT_CID = 3
USER = 1_000
ANY = 0xFFFF_FFFF
BLOCK = 65_536


def text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- no pathlib: what it loads would be seen
            return file.read()
    except OSError as error:
        return f"errno {error.errno}"


# --- facts ---


def processes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in os.listdir("/proc"):  # noqa: PTH208 -- the same
        if not name.isdigit():
            continue
        command = text(f"/proc/{name}/cmdline")
        status = dict(
            line.split(":", 1) for line in text(f"/proc/{name}/status").splitlines() if ":" in line
        )
        if not command or command.startswith("errno"):
            continue  # a kernel thread, or gone meanwhile
        wanted = ("Uid", "CapEff", "NoNewPrivs", "VmRSS", "VmHWM", "Threads")
        facts = {key: status.get(key, "").strip() for key in wanted}
        arguments = command.rstrip("\0").split("\0")
        found.append({"pid": int(name), "arguments": arguments, **facts})
    return found


def walk() -> list[str]:
    """Return every file and folder of the root's own file system."""
    found: list[str] = []
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name not in {"proc", "sys", "dev", "tmp"}]
        found += [os.path.join(folder, name) for name in (*folders, *files)]  # noqa: PTH118 -- the same
    return found


def executables() -> list[str]:
    runnable = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    files = (path for path in walk() if stat.S_ISREG(os.lstat(path).st_mode))
    return sorted(path for path in files if os.lstat(path).st_mode & runnable)


def writable(user: int) -> list[str]:
    """Return the folders in which this user can make a file, and the files it can open to write."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        places = [*walk(), "/", "/dev", "/tmp", "/proc", "/sys", "/dev/shm"]  # noqa: S108 -- looked at
        found = [place for place in places if can_write(place)]
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    os.wait()
    listed: list[str] = json.loads(said)
    return listed


def can_write(place: str) -> bool:
    try:
        if os.path.isdir(place):  # noqa: PTH112 -- the same
            trial = place.rstrip("/") + "/.trial"
            os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            os.unlink(trial)  # noqa: PTH108 -- the same
        else:
            os.close(os.open(place, os.O_WRONLY))
    except OSError:
        return False
    return True


def facts() -> dict[str, Any]:
    tables = ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "packet", "unix")
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    return {
        "processes": processes(),
        "mounts": text("/proc/mounts"),
        "net": {name: text(f"/proc/net/{name}") for name in tables},
        "executables": executables(),
        "writable_by_user": writable(USER),
        "writable_by_root": writable(0),
        "meminfo": text("/proc/meminfo"),
        "clock": text(clock).strip(),
        "entropy": text("/sys/class/misc/hw_random/rng_current").strip(),
        "kernel_modules": text("/proc/modules"),
        "interfaces": os.listdir("/sys/class/net"),  # noqa: PTH208 -- the same
        "uptime": text("/proc/uptime"),
    }


# --- vsock ---


def vsock() -> socket.socket:
    return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)


def listen(port: int) -> socket.socket:
    made = vsock()
    made.bind((ANY, port))
    made.listen(16)
    return made


def echo(peer: socket.socket) -> None:
    """Give everything back; at its end, end."""
    with peer:
        while data := peer.recv(BLOCK):
            peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)


def digest(peer: socket.socket, asked: dict[str, Any]) -> dict[str, Any]:
    """Read to the end, slowly if asked, and say what came."""
    seen, count = hashlib.sha256(), 0
    while data := peer.recv(int(asked.get("block", BLOCK))):
        seen.update(data)
        count += len(data)
        time.sleep(float(asked.get("pause_s", 0)))
    return {"bytes": count, "sha256": seen.hexdigest()}


def send(peer: socket.socket, asked: dict[str, Any]) -> dict[str, Any]:
    """Send so many bytes; the answer follows them."""
    left, block = int(asked["bytes"]), bytes(range(256)) * 256
    began = time.monotonic()
    while left:
        piece = block[: min(left, len(block))]
        peer.sendall(piece)
        left -= len(piece)
    return {"seconds": time.monotonic() - began}


def dial(_: socket.socket, asked: dict[str, Any]) -> dict[str, Any]:
    """Connect to the parent, send a text, end it, read to the end."""
    with vsock() as peer:
        try:
            peer.connect((int(asked.get("cid", PARENT_CID)), int(asked["port"])))
            peer.sendall(asked.get("text", "").encode())
            peer.shutdown(socket.SHUT_WR)
            said = b""
            while data := peer.recv(BLOCK):
                said += data
        except OSError as error:
            return {"errno": error.errno}
        return {"said": said.decode()}


def cut(peer: socket.socket, _: dict[str, Any]) -> dict[str, Any]:
    """Close without a word."""
    peer.close()
    return {}


def write_until_told(peer: socket.socket, _: dict[str, Any]) -> dict[str, Any]:
    """Send until the other side is gone, and say so on the console."""
    sent = 0
    try:
        while True:
            sent += peer.send(bytes(BLOCK))
    except OSError as error:
        print(f"probe: told by errno {error.errno}", flush=True)  # noqa: T201 -- the console
    return {}


ORDERS = {"digest": digest, "send": send, "dial": dial, "cut": cut, "flood": write_until_told}


def answer(peer: socket.socket) -> None:
    with peer:
        line = b""
        while not line.endswith(b"\n"):
            piece = peer.recv(1)
            if not piece:
                return
            line += piece
        asked = json.loads(line)
        order = ORDERS.get(asked["order"])
        said = facts() if order is None else order(peer, asked)
        if peer.fileno() >= 0:
            try:
                peer.sendall(json.dumps(said).encode())
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)
            except OSError:
                pass  # the other side has left


def serve(listener: socket.socket, handle: Any) -> None:  # noqa: ANN401 -- echo or answer
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=handle, args=(peer,), daemon=True).start()


def main() -> None:
    if os.fork():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # what Python changed, and exec keeps
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execv("/init", ["/init"])  # noqa: S606 -- there is no shell
    threading.Thread(target=serve, args=(listen(ECHO_PORT), echo), daemon=True).start()
    serve(listen(PORT), answer)


if __name__ == "__main__":
    main()
