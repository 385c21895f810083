"""HPKE: our context against the library's single-message form, in one run."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hpke as library
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from latensgate_shared import hpke, sealed

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 41
_CALLS: Final = 40
_MESSAGE: Final = b"\xa5" * 2_048
_INFO: Final = b"latensgate/1 request" + bytes(48)


def _cpu_s(call: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(_CALLS):
        call()
    return time.process_time() - start


def _ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Speed of ours over theirs: interleaved, so that a busy neighbour hits both alike."""
    ours()
    theirs()
    pairs = [(_cpu_s(ours), _cpu_s(theirs)) for _ in range(_ROUNDS)]
    return statistics.median(t for _, t in pairs) / statistics.median(o for o, _ in pairs)


def _ours(kem: hpke.KEM, *, export: bool) -> Callable[[], object]:
    suite = hpke.Suite(kem, hpke.AES_256_GCM)
    private = kem.load_private_key(bytes(range(32)))
    public = private.public_key

    def call() -> None:
        enc, sender = hpke.setup_sender(suite, public, _INFO)
        ciphertext = sender.seal(b"", _MESSAGE)
        recipient = hpke.setup_recipient(suite, private, enc, _INFO)
        recipient.open(b"", ciphertext)
        if export:
            sender.export(b"response", 32)
            recipient.export(b"response", 32)

    return call


def _theirs_x25519() -> Callable[[], object]:
    suite = library.Suite(library.KEM.X25519, library.KDF.HKDF_SHA256, library.AEAD.AES_256_GCM)
    private = X25519PrivateKey.generate()
    public = private.public_key()
    return lambda: suite.decrypt(suite.encrypt(_MESSAGE, public, _INFO), private, _INFO)


def _theirs_xwing() -> Callable[[], object]:
    kem = library.KEM.MLKEM768_X25519
    suite = library.Suite(kem, library.KDF.HKDF_SHA256, library.AEAD.AES_256_GCM)
    private = library.MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    )
    public = private.public_key()
    return lambda: suite.decrypt(suite.encrypt(_MESSAGE, public, _INFO), private, _INFO)


def measure() -> list[tuple[str, float, str]]:
    """Return rows of name, value and what the value means."""
    unit = "our speed / one-shot speed of cryptography, seal + open of 2 KB, CPU time"
    rows: list[tuple[str, float, str]] = []
    for name, kem, theirs in (
        ("X25519", hpke.X25519, _theirs_x25519()),
        ("X-Wing", hpke.XWING, _theirs_xwing()),
    ):
        rows.append((f"HPKE {name}", _ratio(_ours(kem, export=False), theirs), unit))
        with_export = _ratio(_ours(kem, export=True), theirs)
        rows.append((f"HPKE {name} with exports", with_export, unit))
    rows.extend(_enclave_side())
    return rows


def _enclave_side() -> list[tuple[str, float, str]]:
    """What one exchange of the sealed protocol costs the enclave."""
    rows: list[tuple[str, float, str]] = []
    for name, suite in (("X25519", sealed.SUITE_X25519), ("X-Wing", sealed.SUITE_XWING)):
        key = sealed.OpeningKey(suite, bytes(range(32)))
        keys = {key.key_id: key}
        wire = sealed.seal_request(key.sealing_key, _INFO, _MESSAGE).wire

        def exchange(keys: dict[bytes, sealed.OpeningKey] = keys, wire: bytes = wire) -> None:
            opened = sealed.open_request(keys, _INFO, wire)
            sealer = sealed.AnswerSealer(opened.answer_secret)
            sealer.content(_MESSAGE)
            sealer.final(_MESSAGE)

        seconds = statistics.median(_cpu_s(exchange) for _ in range(_ROUNDS)) / _CALLS
        unit = "exchanges per CPU second, enclave side: open 2 KB, seal content and final of 2 KB"
        rows.append((f"sealed exchange {name}", 1 / seconds, unit))
    return rows


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:<28} {row[1]:9.2f}  {row[2]}")
