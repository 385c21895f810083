"""Settings: what wins, what is refused, and that every fault is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latensgate.config import (
    Found,
    Settings,
    Surroundings,
    Wanted,
    checked_base_url,
    find_settings,
    load_settings,
)
from latensgate.config_files import FILE_MAX_BYTES
from latensgate.verify import ConfigurationError, Measurements

KEY = "lg_test_" + "A" * 43
OTHER_KEY = "lg_live_" + "B" * 43
PCRS = {f"PCR{index}": f"{index + 1:02x}" * 48 for index in range(3)}
MEASURED = Measurements.from_hex(PCRS["PCR0"], PCRS["PCR1"], PCRS["PCR2"])
ROOT = "ab" * 32
TENANT = "tnt_a3f9c42b"
ENTRY = f"""
[[gateways]]
base_url = "http://127.0.0.1:8700"
tenant = "{TENANT}"
api_key = "{KEY}"
simulated_root_sha256 = "{ROOT}"
[[gateways.measurements]]
PCR0 = "{PCRS["PCR0"]}"
PCR1 = "{PCRS["PCR1"]}"
PCR2 = "{PCRS["PCR2"]}"
"""


def around(folder: Path, **variables: str) -> Surroundings:
    return Surroundings(variables, folder, folder / "state")


def write(folder: Path, text: str, name: str = "config.toml", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def full(**changes: object) -> Wanted:
    given = {
        "api_key": KEY,
        "tenant": TENANT,
        "base_url": "https://gateway.example",
        "measurements": [PCRS],
        **changes,
    }
    return Wanted(**given)  # type: ignore[arg-type]  # by the tests


def faults(wanted: Wanted, surroundings: Surroundings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(wanted, surroundings)
    return caught.value.detail


def test_arguments_are_enough(tmp_path: Path) -> None:
    found = load_settings(full(), around(tmp_path))
    assert found == Settings(
        base_url="https://gateway.example",
        tenant=TENANT,
        api_key=KEY,
        policy=found.policy,
        state_dir=tmp_path / "state",
        origin="arguments or environment",
    )
    assert found.policy.measurements == (MEASURED,)
    assert not found.simulated


def test_the_environment_names_who_and_where(tmp_path: Path) -> None:
    said = {
        "LATENSGATE_KEY": KEY,
        "LATENSGATE_TENANT": TENANT,
        "LATENSGATE_BASE_URL": "https://GATEWAY.example:443/t/tnt_a3f9c42b/",
    }
    found = load_settings(Wanted(measurements=[MEASURED]), around(tmp_path, **said))
    assert found.base_url == "https://gateway.example:443/t/tnt_a3f9c42b"
    assert (found.tenant, found.api_key) == (TENANT, KEY)


def test_a_file_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path, ENTRY)
    found = load_settings(Wanted(simulated=True), around(tmp_path))
    assert found.origin == str(path)
    assert found.simulated
    assert found.policy.unsafe_accept_simulated_root_sha256 == ROOT


def test_arguments_win_over_environment_over_files(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    environment = around(tmp_path, LATENSGATE_KEY=OTHER_KEY, LATENSGATE_TENANT="tnt_00000002")
    found = load_settings(Wanted(tenant="tnt_00000001"), environment)
    assert (found.tenant, found.api_key) == ("tnt_00000001", OTHER_KEY)


def test_config_comes_before_dev(tmp_path: Path) -> None:
    write(tmp_path, ENTRY.replace(TENANT, "tnt_00000009"), "dev.toml")
    assert load_settings(Wanted(), around(tmp_path)).tenant == "tnt_00000009"
    write(tmp_path, ENTRY)
    assert load_settings(Wanted(), around(tmp_path)).tenant == TENANT


def test_the_entry_of_the_address_is_taken(tmp_path: Path) -> None:
    second = ENTRY.replace("http://127.0.0.1:8700", "https://b.example/").replace(KEY, OTHER_KEY)
    write(tmp_path, ENTRY + second)
    assert load_settings(Wanted(), around(tmp_path)).api_key == KEY
    assert (
        load_settings(Wanted(base_url="https://B.example"), around(tmp_path)).api_key == OTHER_KEY
    )
    told = faults(Wanted(base_url="https://c.example"), around(tmp_path))
    assert "api_key" in told
    assert "trust" in told


def test_nothing_turns_simulated_on_but_an_argument(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    variables = {"LATENSGATE_SIMULATED": "1", "LATENSGATE_SIMULATED_ROOT_SHA256": ROOT}
    assert not load_settings(Wanted(), around(tmp_path, **variables)).simulated
    assert "simulated_root_sha256" in faults(full(simulated=True), around(tmp_path))
    assert not load_settings(full(simulated_root_sha256=ROOT), around(tmp_path)).simulated


def test_explicit_trust_replaces_that_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    other = dict.fromkeys(PCRS, "cd" * 48)
    found = load_settings(Wanted(measurements=[other]), around(tmp_path))
    assert found.policy.measurements == (Measurements.from_hex("cd" * 48, "cd" * 48, "cd" * 48),)


def release_list(path: Path) -> Path:
    release = {
        "version": "1.0.0",
        "flavour": "core",
        "deployment_digest": "sha384:" + "0" * 96,
        **{name.lower(): value for name, value in PCRS.items()},
    }
    path.write_text(json.dumps({"releases": [release]}))
    return path


def test_release_lists(tmp_path: Path) -> None:
    path = release_list(tmp_path / "releases.json")
    found = load_settings(full(measurements=None, release_list=path), around(tmp_path))
    assert [release.version for release in found.policy.releases] == ["1.0.0"]
    head = ENTRY.partition("[[gateways.m")[0]
    write(tmp_path, head + 'release_list = "releases.json"\n')
    assert load_settings(Wanted(), around(tmp_path)).policy.releases == found.policy.releases
    assert "no.json" in faults(full(release_list=tmp_path / "no.json"), around(tmp_path))
    path.write_text("{}")
    assert "releases" in faults(full(release_list=path), around(tmp_path))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = faults(Wanted(), around(tmp_path))
    for name in ("base_url", "tenant", "api_key", "trust"):
        assert f"{name}:" in told
    told = faults(
        full(
            api_key="sk-secret-of-another",
            tenant="acme",
            base_url="ftp://x",
            measurements=[{"PCR0": "00"}],
        ),
        around(tmp_path),
    )
    for name in ("base_url", "tenant", "api_key", "measurements, entry 0"):
        assert name in told
    assert "secret-of-another" not in told


@pytest.mark.parametrize(
    "value",
    [
        "http://gateway.example",
        "http://10.0.0.1:8700",
        "https://",
        "https://user:word@gateway.example",
        "https://gateway.example/?x=1",
        "https://gateway.example/#x",
        "https://gateway.example:99999",
        "https://[::1",
        "gateway.example",
        "",
    ],
)
def test_addresses_that_are_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        checked_base_url(value)


@pytest.mark.parametrize(
    "value", ["http://127.0.0.2:8700", "http://localhost", "http://[::1]:8700", "https://x/t/y/"]
)
def test_addresses_that_are_taken(value: str) -> None:
    assert checked_base_url(value) == value.rstrip("/")


def test_tenants_of_address_and_argument_agree(tmp_path: Path) -> None:
    url = "https://gateway.example/t/tnt_00000001"
    assert load_settings(full(base_url=url, tenant=None), around(tmp_path)).tenant == "tnt_00000001"
    assert "tnt_00000001 stands in base_url" in faults(full(base_url=url), around(tmp_path))


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ENTRY, mode=0o644)
    told = faults(Wanted(), around(tmp_path))
    assert "chmod 600" in told
    assert KEY not in told
    write(tmp_path, ENTRY.replace(f'api_key = "{KEY}"\n', ""), mode=0o644)
    assert load_settings(Wanted(api_key=KEY), around(tmp_path)).api_key == KEY


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[gateways]", "TOML"),
        ("gateways = 5", "array of tables"),
        ("gateways = [5]", "array of tables"),
        ("[other]\nx = 1", "found other"),
        ("[[gateways]]\ntenant = 'tnt_00000001'", "base_url expected"),
        ("[[gateways]]\nbase_url = 5", "base_url: text expected"),
        ("[[gateways]]\nbase_url = 'https://x'\nsimulated = true", "unknown simulated"),
        ("[[gateways]]\nbase_url = 'https://x'\nmeasurements = 1", "array of tables"),
        ("[[gateways]]\nbase_url = 'https://x'\n[[gateways.measurements]]\nPCR0 = 1", "exactly"),
        (ENTRY.replace(PCRS["PCR1"], "00"), "PCR1"),
        (ENTRY.replace(PCRS["PCR1"], "00" * 48), "debug"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, told: str) -> None:
    write(tmp_path, text)
    assert told in faults(full(), around(tmp_path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    assert "config.toml" in faults(full(), around(tmp_path))
    (tmp_path / "config.toml").rmdir()
    (tmp_path / "config.toml").write_bytes(b"#" * (FILE_MAX_BYTES + 1))
    assert "bytes expected" in faults(full(), around(tmp_path))
    (tmp_path / "config.toml").write_bytes(b"x = '\xff'")
    assert "UTF-8" in faults(full(), around(tmp_path))


def test_a_folder_that_is_none_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert load_settings(full(), around(tmp_path / "file")).tenant == TENANT


def test_what_is_found_is_told_even_if_it_is_not_enough(tmp_path: Path) -> None:
    found: Found = find_settings(Wanted(base_url="https://gateway.example"), around(tmp_path))
    assert found.base_url == "https://gateway.example"
    assert len(found.faults) == 3


def test_keys_are_never_printed(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    everything = repr(
        [load_settings(Wanted(), around(tmp_path)), full(), around(tmp_path, LATENSGATE_KEY=KEY)]
    )
    assert KEY not in everything


def test_surroundings_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENSGATE_CONFIG_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("LATENSGATE_STATE_DIR", str(tmp_path / "s"))
    found = Surroundings.of_process()
    assert (found.config_dir, found.state_dir) == (tmp_path / "c", tmp_path / "s")
    monkeypatch.delenv("LATENSGATE_CONFIG_DIR")
    assert "latensgate" in str(Surroundings.of_process().config_dir)
