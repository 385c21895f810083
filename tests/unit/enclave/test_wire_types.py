"""The library's descriptions of wire types are whole before a second thread can want one."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from latensgate_enclave.wire_types import wire_types

DESCRIBED_LATER = """
import sys
import msgspec
from latensgate_enclave.__main__ import main
from latensgate_enclave.wire_types import wire_types

names = ["--nsm", "/nowhere/nsm", "--egress", "unix:/nowhere/egress"]
main([*names, "--listen", "unix:/nowhere/listen", "--config", "/nowhere"])
seen = []

def look(frame, event, _argument):
    if event == "call" and frame.f_code.co_name == "get_class_annotations":
        seen.append(frame.f_locals["obj"])

sys.setprofile(look)
for kind in list(wire_types(msgspec.Struct)):
    msgspec.json.Decoder(kind)
sys.setprofile(None)
assert seen, "the library no longer describes a type where this test looks"
print(*(kind.__name__ for kind in seen if kind.__module__.startswith("latensgate")), sep=" ")
"""

TOGETHER = """
import sys, threading
import latensgate_enclave.__main__
from latensgate_enclave.chat import parse_chat_request
from latensgate_enclave.wire_types import describe_wire_types

describe_wire_types()
sys.setswitchinterval(1e-5)
start = threading.Barrier(4)

def read():
    start.wait()
    parse_chat_request({"model": "m", "messages": [{"role": "user", "content": "x"}]})

threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def run(script: str) -> str:
    command = [sys.executable, "-B", "-c", script]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def test_no_type_is_left_to_be_described_while_serving() -> None:
    """Two threads that describe one type at once end the process: seen in a fresh enclave."""
    assert run(DESCRIBED_LATER) == ""


def test_the_first_requests_may_be_read_in_several_threads() -> None:
    for _ in range(5):
        run(TOGETHER)


def test_types_below_types_are_found() -> None:
    class Outer(msgspec.Struct):
        pass

    class Inner(Outer):
        pass

    assert {Outer, Inner} <= set(wire_types(msgspec.Struct))
    assert list(wire_types(Outer)) == [Inner]
