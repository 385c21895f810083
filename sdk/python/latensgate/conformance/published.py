"""Loaders for vectors that others published, each in its own form.

Where such a set says no more than "refuse", any kind of error will do.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from latensgate.conformance.case import Case, Expectation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from latensgate_shared.strict_json import JSONObject

_REFUSE: Final = Expectation()
_ANY_SECOND: Final = 1_700_000_000
"""Where a set says that every time will do."""
_NO_MEASUREMENT: Final = "ff" * 48
"""Stands in the policy where a document has no usable register; nothing can match it."""


def _read(path: Path) -> Any:  # noqa: ANN401 - other people's forms, checked by use
    return json.loads(path.read_bytes())


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


# --- nitro/: attestation documents ---


def _seconds(text: str) -> int:
    return _ANY_SECOND if text == "any" else int(datetime.fromisoformat(text).timestamp())


def _policy(pcrs: dict[str, str]) -> JSONObject:
    return {f"pcr{index}": pcrs.get(str(index)) or _NO_MEASUREMENT for index in (0, 1, 2)}


def _document_input(path: Path, at: int, pcrs: dict[str, str], root: str | None) -> JSONObject:
    given: JSONObject = {
        "document_base64": _base64(path.read_bytes()),
        "at": at,
        "policy": _policy(pcrs),
    }
    return given if root is None else {**given, "root_sha256": root}


def _document_expectation(entry: dict[str, Any]) -> Expectation:
    if entry["expected"] in {"accept", "valid"}:
        names = ("module_id", "timestamp_ms")
        return Expectation(output={name: entry[name] for name in names if name in entry})
    if entry["expected"] == "valid-debug":
        return Expectation(error="debug-mode-refused")
    return _REFUSE


def _nitro_attestation(path: Path) -> list[Case]:
    return _documents(path, _read(path)["documents"])


def _nitro_foreign(path: Path) -> list[Case]:
    return _documents(path, _read(path))


def _documents(path: Path, entries: list[dict[str, Any]]) -> list[Case]:
    folder = path.parent.name
    cases: list[Case] = []
    for entry in entries:
        at = _seconds(entry.get("verify_at", "any"))
        pcrs = entry.get("pcrs_nonzero", {})
        given = _document_input(path.parent.parent / entry["file"], at, pcrs, None)
        cases.append(_document_case(folder, entry, given))
        if entry["expected"] == "valid":
            cases.append(_later(folder, entry, given, at))
    return cases


def _later(folder: str, entry: dict[str, Any], given: JSONObject, at: int) -> Case:
    """The same document when its leaf is long gone."""
    expired = Expectation(error="certificate-expired")
    name = f"nitro/{entry['file']} ten days later"
    late: JSONObject = {**given, "at": at + 10 * 86_400}
    why = "leaves live three hours"
    return Case(f"nitro/{folder}", name, "verify_document", late, expired, why)


def _document_case(folder: str, entry: dict[str, Any], given: JSONObject) -> Case:
    why = str(entry.get("why") or entry.get("reason") or "")
    return Case(
        f"nitro/{folder}",
        f"nitro/{entry['file']}",
        "verify_document",
        given,
        _document_expectation(entry),
        why,
    )


def _nitro_mutations(path: Path) -> list[Case]:
    base = {
        entry["file"]: entry
        for entry in _read(path.parent.parent / "attestation/expected.json")["documents"]
    }
    cases: list[Case] = []
    for entry in _read(path)["documents"]:
        origin = base[entry["base"]]
        given = _document_input(
            path.parent.parent / entry["file"],
            _seconds(origin["verify_at"]),
            origin["pcrs_nonzero"],
            None,
        )
        cases.append(_document_case("mutations", entry, given))
    return cases


def _nitro_synthetic(path: Path) -> list[Case]:
    listed = _read(path)
    root = _pem_fingerprint(path.parent / "test-root.pem")
    at = _seconds(listed["verify_at"])
    return [
        _document_case(
            "synthetic-pki",
            entry,
            _document_input(path.parent.parent / entry["file"], at, listed["pcrs"], root),
        )
        for entry in listed["documents"]
    ]


def _pem_fingerprint(path: Path) -> str:
    lines = path.read_text().splitlines()
    return sha256(b64decode("".join(line for line in lines if "-----" not in line))).hexdigest()


# --- standards/ and aci/ ---


def _hpke(path: Path) -> list[Case]:
    known = [
        entry
        for entry in _read(path)
        if entry["mode"] == 0
        and entry["kem_id"] in {0x0020, 0x647A}
        and entry["kdf_id"] == 1
        and entry["aead_id"] in {1, 2, 3}
    ]
    return [_hpke_case(path, number, entry) for number, entry in enumerate(known)]


def _hpke_case(path: Path, number: int, entry: dict[str, Any]) -> Case:
    messages = list(_in_sequence(entry["encryptions"]))
    given: JSONObject = {
        "kem_id": entry["kem_id"],
        "aead_id": entry["aead_id"],
        "private_key_hex": entry["skRm"],
        "enc_hex": entry["enc"],
        "info_hex": entry["info"],
        "messages": [{"aad_hex": m["aad"], "ciphertext_hex": m["ct"]} for m in messages],
        "exports": [
            {"context_hex": e["exporter_context"], "length": e["L"]} for e in entry["exports"]
        ],
    }
    output: JSONObject = {
        "plaintexts_hex": [m["pt"] for m in messages],
        "exports_hex": [e["exported_value"] for e in entry["exports"]],
    }
    name = f"hpke/{path.stem}-{number}-kem-{entry['kem_id']:#06x}-aead-{entry['aead_id']}"
    return Case("hpke", name, "hpke_open", given, Expectation(output=output))


def _in_sequence(encryptions: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Messages from 0 without a gap: a context opens in order."""
    for number, message in enumerate(encryptions):
        if message.get("seq", number) != number:
            return
        yield message


def _xwing(path: Path) -> list[Case]:
    return [
        Case(
            "x-wing",
            f"x-wing/{number}",
            "xwing_decapsulate",
            {"private_key_hex": entry["sk"], "enc_hex": entry["ct"]},
            Expectation(
                output={
                    "shared_secret_hex": entry["ss"],
                    "public_key_sha256": sha256(bytes.fromhex(entry["pk"])).hexdigest(),
                }
            ),
        )
        for number, entry in enumerate(_read(path))
    ]


def _jcs_case(name: str, text: bytes, canonical: bytes) -> Case:
    output: JSONObject = {"canonical_base64": _base64(canonical)}
    return Case(
        "jcs",
        f"jcs/{name}",
        "canonicalize",
        {"json_base64": _base64(text)},
        Expectation(output=output),
    )


def _jcs_rfc(path: Path) -> list[Case]:
    return [
        _jcs_case(
            f"rfc8785-{entry['name']}", entry["input_text"].encode(), entry["canonical"].encode()
        )
        for entry in _read(path)
    ]


def _jcs_golden(path: Path) -> list[Case]:
    return [
        _jcs_case(
            f"golden-{number}", json.dumps(entry["input"]).encode(), entry["canonical"].encode()
        )
        for number, entry in enumerate(_read(path))
    ]


def _jcs_numbers(path: Path) -> list[Case]:
    """A hundred numbers to a case."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    cases: list[Case] = []
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        numbers = [struct.unpack(">d", bytes.fromhex(bits.rjust(16, "0")))[0] for bits, _ in part]
        canonical = "[" + ",".join(text for _, text in part) + "]"
        cases.append(
            _jcs_case(f"es6-numbers-{start}", json.dumps(numbers).encode(), canonical.encode())
        )
    return cases


_NO_ROOT: Final = b64encode(b"don't care 2").decode()
"""One case accepts twelve bytes of text as a root; a root here is a SHA-256."""


def _merkle_hexes(proof: list[str] | None) -> list[Any]:
    return [b64decode(value).hex() for value in proof or []]


def _merkle_inclusion(path: Path) -> list[Case]:
    cases: list[Case] = []
    for number, entry in enumerate(_read(path)):
        given: JSONObject = {
            "leaf_hash_hex": b64decode(entry["leafHash"] or "").hex(),
            "index": entry["leafIdx"],
            "tree_size": entry["treeSize"],
            "proof_hex": _merkle_hexes(entry["proof"]),
            "root_hex": b64decode(entry["root"] or "").hex(),
        }
        cases.append(_merkle_case("inclusion", number, entry, given))
    return cases


def _merkle_consistency(path: Path) -> list[Case]:
    cases: list[Case] = []
    for number, entry in enumerate(_read(path)):
        if entry["root1"] == _NO_ROOT and not entry["wantErr"]:
            continue
        given: JSONObject = {
            "old_size": entry["size1"],
            "new_size": entry["size2"],
            "old_root_hex": b64decode(entry["root1"] or "").hex(),
            "new_root_hex": b64decode(entry["root2"] or "").hex(),
            "proof_hex": _merkle_hexes(entry["proof"]),
        }
        cases.append(_merkle_case("consistency", number, entry, given))
    return cases


def _merkle_case(kind: str, number: int, entry: dict[str, Any], given: JSONObject) -> Case:
    expect = _REFUSE if entry["wantErr"] else Expectation(output={})
    return Case(
        "merkle-published",
        f"merkle-published/{kind}-{number}",
        f"merkle_{kind}",
        given,
        expect,
        entry["desc"],
    )


def _aci(path: Path) -> list[Case]:
    values = _read(path)
    rows = (
        ("nonce", values["nonce"], values["report_data_nonce"]),
        ("null", None, values["report_data_null"]),
    )
    cases = [
        Case(
            "aci",
            f"aci/report-data-{name}",
            "aci_report_data",
            {"keyset_digest": values["workload_keyset_digest"], "nonce_hex": nonce},
            Expectation(output={"report_data_hex": digest}),
        )
        for name, nonce, digest in rows
    ]
    for name in ("keyset.jcs.json", "session.jcs.json"):
        data = (path.parent / name).read_bytes()
        cases.append(
            Case(
                "aci",
                f"aci/{name}",
                "canonicalize",
                {"json_base64": _base64(data)},
                Expectation(output={"canonical_base64": _base64(data)}),
            )
        )
    return cases


def _cose(path: Path) -> list[Case]:
    entry = _read(path)
    message = {"message_hex": entry["output"]["cbor"].lower()}
    if "sign0" not in entry["input"] or "external" in entry["input"]["sign0"]:
        return []
    if path.stem == "sign-fail-01":  # the wrong tag; what fails later is the signature's matter
        return [
            Case("cose", "cose/sign-fail-01", "cose_sign1", {**message}, _REFUSE, entry["title"])
        ]
    if entry.get("fail"):
        return []
    output: JSONObject = {"sig_structure_hex": entry["intermediates"]["ToBeSign_hex"].lower()}
    return [
        Case(
            "cose",
            f"cose/{path.stem}",
            "cose_sign1",
            {**message},
            Expectation(output=output),
            entry["title"],
        )
    ]


LOADERS: Final[dict[str, Callable[[Path], list[Case]]]] = {
    "nitro/attestation/expected.json": _nitro_attestation,
    "nitro/foreign/expected.json": _nitro_foreign,
    "nitro/mutations/expected.json": _nitro_mutations,
    "nitro/synthetic-pki/expected.json": _nitro_synthetic,
    "hpke/rfc9180.json": _hpke,
    "hpke/hpke-pq-draft.json": _hpke,
    "hpke/x-wing-draft.json": _xwing,
    "jcs/rfc8785-testdata.json": _jcs_rfc,
    "jcs/latchgate-golden.json": _jcs_golden,
    "jcs/es6-numbers-10000.txt": _jcs_numbers,
    "merkle/inclusion.json": _merkle_inclusion,
    "merkle/consistency.json": _merkle_consistency,
    "aci/values.json": _aci,
}
"""File, by the end of its path, and what reads it."""

FOLDER_LOADERS: Final[dict[str, Callable[[Path], list[Case]]]] = {
    "cose/sign1-tests": _cose,
    "cose/ecdsa-examples": _cose,
    "cose/eddsa-examples": _cose,
}
"""Folder, by the end of its path, and what reads each of its JSON files."""
