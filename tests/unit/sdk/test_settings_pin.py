# pyright: reportPrivateUsage=false

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from latensgate import settings_pin
from latensgate.config import Surroundings, Wanted, find_settings
from latensgate.exchange_seal import SealOptions
from latensgate.settings_pin import SettingsPin
from latensgate.state import write_private
from latensgate_shared.strict_json import JSONObject, JSONValue

ROOT, TENANT = b"r" * 32, "tnt_00000001"
DIGEST = "sha384:" + "ab" * 48


def receipt(told: JSONValue) -> JSONObject:
    return {"private": {"pii": {"settings": told}}}


def test_the_newest_version_seen_is_demanded_also_by_the_next_process(tmp_path: Path) -> None:
    pin = SettingsPin.of(tmp_path, TENANT, ROOT)
    assert pin.at_least(None) is None
    assert pin.at_least(2) == 2
    pin.seen(receipt(f"7 {DIGEST}"))
    pin.seen(receipt(f"3 {DIGEST}"))
    assert (pin.at_least(None), pin.at_least(2), pin.at_least(9)) == (7, 7, 9)
    again = SettingsPin.of(tmp_path, TENANT, ROOT)
    assert again.at_least(None) == 7
    assert SettingsPin.of(tmp_path, TENANT, b"s" * 32).at_least(None) is None
    assert SealOptions(min_settings_version=5, pin=again).demanded_version == 7
    assert SealOptions(min_settings_version=5).demanded_version == 5


def test_threads_never_write_an_older_version_over_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = SettingsPin.of(tmp_path, TENANT, ROOT)
    newer = Thread(target=pin.seen, args=(receipt(f"6 {DIGEST}"),))

    def slow(path: Path, data: bytes) -> None:
        if data == b"5":
            newer.start()
            newer.join(0.2)
        write_private(path, data)

    monkeypatch.setattr(settings_pin, "write_private", slow)
    pin.seen(receipt(f"5 {DIGEST}"))
    newer.join(5)
    assert pin.at_least(None) == SettingsPin.of(tmp_path, TENANT, ROOT).at_least(None) == 6


def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = SettingsPin.of(tmp_path, TENANT, ROOT)
    held = Thread(target=pin._lock.acquire)  # by a thread that the fork leaves behind
    held.start()
    held.join()
    monkeypatch.setattr("os.getpid", lambda: -1)
    pin.in_this_process()
    pin.seen(receipt(f"5 {DIGEST}"))
    assert pin.at_least(None) == 5


@pytest.mark.parametrize("told", ["none", None, 7, "7", f"x {DIGEST}", f"7 {DIGEST} ", []])
def test_what_is_no_version_pins_nothing(tmp_path: Path, told: JSONValue) -> None:
    pin = SettingsPin.of(tmp_path, TENANT, ROOT)
    pin.seen(receipt(told))
    pin.seen({"private": told})
    pin.seen({})
    assert pin.at_least(None) is None


def test_another_process_that_saw_more_is_not_set_back(tmp_path: Path) -> None:
    one, other = SettingsPin.of(tmp_path, TENANT, ROOT), SettingsPin.of(tmp_path, TENANT, ROOT)
    one.seen(receipt(f"9 {DIGEST}"))
    other.seen(receipt(f"4 {DIGEST}"))
    assert SettingsPin.of(tmp_path, TENANT, ROOT).at_least(None) == 9


def test_a_damaged_file_or_no_folder_costs_the_memory_only(tmp_path: Path) -> None:
    pin = SettingsPin.of(tmp_path, TENANT, ROOT)
    pin.seen(receipt(f"9 {DIGEST}"))
    (path,) = (tmp_path / "settings").iterdir()
    path.write_bytes(b"many")
    assert SettingsPin.of(tmp_path, TENANT, ROOT).at_least(None) is None
    (tmp_path / "file").write_bytes(b"")
    nowhere = SettingsPin.of(tmp_path / "file", TENANT, ROOT)
    nowhere.seen(receipt(f"9 {DIGEST}"))
    assert nowhere.at_least(None) == 9


def found(folder: Path, entry: str, **variables: str) -> tuple[object, object, str]:
    (folder / "config.toml").write_text(f'[[gateways]]\nbase_url = "https://g.example"\n{entry}\n')
    told = find_settings(Wanted(), Surroundings(variables, folder, folder))
    return told.tenant_root, told.min_settings_version, "; ".join(told.faults)


def test_root_and_version_come_from_file_or_environment(tmp_path: Path) -> None:
    root, other = "ab" * 32, "cd" * 32
    file = f'tenant_root = "{root}"\nmin_settings_version = 3'
    assert found(tmp_path, file)[:2] == (root, 3)
    own = {"LATENSGATE_TENANT_ROOT": other, "LATENSGATE_MIN_SETTINGS_VERSION": "5"}
    assert found(tmp_path, file, **own)[:2] == (other, 5)
    assert found(tmp_path, "")[:2] == (None, None)


@pytest.mark.parametrize(
    ("entry", "variables", "fault"),
    [
        ('tenant_root = "AB"', {}, "tenant_root"),
        ("min_settings_version = 3", {}, "only with tenant_root"),
        ("min_settings_version = true", {}, "min_settings_version"),
        ("min_settings_version = -1", {}, "min_settings_version"),
        ("", {"LATENSGATE_MIN_SETTINGS_VERSION": "x"}, "min_settings_version"),
        ("", {"LATENSGATE_TENANT_ROOT": "x"}, "tenant_root"),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, entry: str, variables: dict[str, str], fault: str
) -> None:
    assert fault in found(tmp_path, entry, **variables)[2]
