"""tests/vectors/releases: lists of accepted releases, releases.md."""

# ruff: noqa: E501 -- a table of cases reads best one row a line

from __future__ import annotations

import json

from vectors.case import Case, Json, base64_text, fixed, sha384_text

SPEC = "releases.md"
KIND = "ERR_CONFIGURATION"


def entry(**changes: Json) -> dict[str, Json]:
    """A good entry."""
    members: dict[str, Json] = {
        "version": "0.1.0",
        "flavour": "core",
        "deployment_digest": sha384_text(b"deployment.toml"),
        "pcr0": fixed("release pcr0", 48).hex(),
        "pcr1": fixed("release pcr1", 48).hex(),
        "pcr2": fixed("release pcr2", 48).hex(),
    }
    return members | changes


def release_list(*entries: Json) -> bytes:
    """The list as a file."""
    return json.dumps({"releases": list(entries)}).encode()


def _input(text: bytes) -> dict[str, Json]:
    return {"releases_base64": base64_text(text)}


def _told(members: dict[str, Json]) -> dict[str, Json]:
    return {
        "version": members["version"],
        "pcr0": members["pcr0"],
        "revoked": members.get("revoked", False),
        "not_after": members.get("not_after"),
    }


def _good(name: str, why: str, *entries: dict[str, Json]) -> Case:
    output: dict[str, Json] = {"releases": [_told(members) for members in entries]}
    return Case(name, "parse_releases", why, SPEC, _input(release_list(*entries)), output)


def _bad(name: str, why: str, text: bytes) -> Case:
    return Case(name, "parse_releases", why, SPEC, _input(text), error=KIND)


def cases() -> list[Case]:
    """Lists, good and bad."""
    short = entry()
    del short["pcr2"]
    rows: tuple[tuple[str, str, Json], ...] = (
        ("member-missing", "PCR2 is missing: the three are always compared together.", short),
        ("member-unknown", "An unknown member may be a restriction that this version would not apply.", entry(not_before=1)),
        ("pcr-upper-case", "Hexadecimal digits are lower case.", entry(pcr0="AB" * 48)),
        ("pcr-short", "47 bytes.", entry(pcr1="00" * 47)),
        ("pcr-zero", "Zeros are what debug mode shows.", entry(pcr0="00" * 48)),
        ("pcr-number", "A register is text.", entry(pcr2=1)),
        ("digest-sha256", "Digests are SHA-384.", entry(deployment_digest="sha256:" + "0" * 64)),
        ("version-long", "65 characters.", entry(version="1" * 65)),
        ("flavour-empty", "A flavour has at least one character.", entry(flavour="")),
        ("revoked-text", "revoked is true or false.", entry(revoked="no")),
        ("revoked-null", "A member without a value is left out.", entry(revoked=None)),
        ("not-after-zero", "not_after is positive.", entry(not_after=0)),
        ("not-after-true", "A boolean is no integer.", entry(not_after=True)),
        ("entry-array", "An entry is an object.", []),
    )  # fmt: skip
    return [
        _good("one", "One release.", entry()),
        _good("revoked-and-ended", "The optional members.", entry(revoked=True), entry(version="0.2.0", not_after=1_780_319_700)),
        *(_bad(name, why, release_list(value)) for name, why, value in rows),
        _bad("empty-list", 'No release: an empty policy is never "anything".', release_list()),
        _bad("top-member-unknown", "An unknown member beside the list.", b'{"releases":[],"note":1}'),
        _bad("array", "Not an object.", b"[]"),
        _bad("not-json", "Not JSON.", b"releases"),
    ]  # fmt: skip
