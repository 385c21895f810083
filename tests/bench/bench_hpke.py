"""HPKE: our context against the library's single-message form, in one run."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hpke as library
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from latensgate_shared import hpke

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
    return rows


if __name__ == "__main__":
    for row in measure():
        print(f"{row[0]:<28} {row[1]:6.2f}  {row[2]}")
