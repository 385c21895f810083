"""Settings: one value, all faults at once."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

import pytest

from latensgate.verify import ConfigurationError
from latensgate_parent.appraisal import appraisal_policy
from latensgate_parent.clock import from_rfc3339, to_rfc3339
from latensgate_parent.deployment import DeploymentError, load_deployment
from latensgate_parent.settings import (
    Settings,
    SettingsError,
    VerifierSettings,
    load_settings,
    read_settings,
)
from latensgate_parent.settings_forms import HostPort

MEASUREMENTS = [{"PCR0": "a0" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48}]
GOOD: dict[str, object] = {
    "database": "sqlite:////var/lib/latensgate.db",
    "enclaves": ["vsock:16:5005", "unix:/run/enclave.sock"],
    "egress_listen": "vsock:8443",
    "kms_key_arn": "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "deployment": "/etc/latensgate/deployment.toml",
    "verifier": {"measurements": MEASUREMENTS},
}


def read(changes: dict[str, object] | None = None, **environment: str) -> Settings:
    return read_settings(GOOD | (changes or {}), environment)


def faults(changes: dict[str, object], **environment: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        read(changes, **environment)
    return {fault.name: str(fault) for fault in caught.value.faults}


def test_defaults() -> None:
    settings = read()
    assert settings.listen == HostPort("127.0.0.1", 8700)
    assert settings.operator_listen == HostPort("127.0.0.1", 8701)
    assert settings.requests_per_minute == 60
    assert settings.credentials == "boto3"
    assert settings.trusted_proxies == ()
    assert settings.verifier.simulated_root_sha256 is None
    assert dataclasses.is_dataclass(settings)


def test_every_attribute_has_a_reader() -> None:
    told = {each.name for each in dataclasses.fields(Settings)}
    assert faults({name: object() for name in told}).keys() == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "8700"),
        ("listen", "127.0.0.1:65536"),
        ("listen", 8700),
        ("operator_listen", "127.0.0.1:8700"),
        ("database", "mysql://x"),
        ("public_url", "https://gateway.example/path"),
        ("tenant_domain", "bad domain"),
        ("enclaves", []),
        ("enclaves", ["vsock:1"]),
        ("enclaves", ["unix:/a", "unix:/a"]),
        ("enclaves", "unix:/a"),
        ("egress_listen", "unix:relative"),
        ("egress_routes", {"kms.us-east-1.amazonaws.com:443": "10.0.0.1:1"}),
        ("egress_routes", []),
        ("kms_key_arn", "arn:aws:kms:us-east-1:111122223333:alias/x"),
        ("kms_key_arn", "arn:aws:kms:us-east-1:111122223333:key/" + "a" * 2_048),
        ("credentials", "env"),
        ("deployment", ""),
        ("deployment", "a\0b"),
        ("requests_per_minute", -1),
        ("requests_per_minute", True),
        ("requests_per_minute", "60"),
        ("trusted_proxies", ["10.0.0.1/8"]),
        ("trusted_proxies", "10.0.0.0/8"),
        ("verifier", {}),
        ("verifier", "x"),
        ("colour", "red"),
    ],
)
def test_each_fault_is_named(name: str, value: object) -> None:
    assert set(faults({name: value})) == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("measurements", "x"),
        ("measurements", [{"PCR0": "a0" * 48}]),
        ("measurements", [{"PCR0": "00" * 48, "PCR1": "a1" * 48, "PCR2": "a2" * 48}]),
        ("measurements", [{"PCR0": 1, "PCR1": "a1" * 48, "PCR2": "a2" * 48}]),
        ("release_list", 1),
        ("simulated_root_sha256", "AB"),
        ("simulated", True),
    ],
)
def test_faults_of_the_verifier(name: str, value: object) -> None:
    told = faults({"verifier": {"measurements": MEASUREMENTS, name: value}})
    assert set(told) == {f"verifier.{name}"}


def test_all_faults_at_once_and_nothing_secret() -> None:
    told = faults(
        {
            "database": "postgres://user:hunter2@db/x",
            "listen": "\x1b[2J",
            "enclaves": None,
            "egress_listen": "x" * 1_000,
        }
    )
    assert set(told) == {"database", "listen", "enclaves", "egress_listen"}
    assert "hunter2" not in "".join(told.values())
    assert all(text.isprintable() and len(text) < 300 for text in told.values())


def test_missing_ones_are_told() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({}, {})
    names = {fault.name for fault in caught.value.faults}
    assert {
        "database",
        "enclaves",
        "egress_listen",
        "kms_key_arn",
        "deployment",
        "verifier",
    } == names


def test_the_environment_stands_above_the_file() -> None:
    settings = read(
        None,
        LATENSGATE_PARENT_LISTEN="[::1]:1",
        LATENSGATE_PARENT_ENCLAVES="unix:/a, unix:/b",
        LATENSGATE_PARENT_REQUESTS_PER_MINUTE="7",
        LATENSGATE_PARENT_TRUSTED_PROXIES="10.0.0.0/8",
        LATENSGATE_PARENT_VERIFIER_RELEASE_LIST="/list",
        LATENSGATE_PARENT_CONFIG="/not/looked/at/here",
        OTHER="x",
    )
    assert (settings.listen.host, settings.listen.port, str(settings.listen)) == (
        "::1",
        1,
        "[::1]:1",
    )
    assert settings.enclaves == ("unix:/a", "unix:/b")
    assert settings.requests_per_minute == 7
    assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"),)
    assert settings.verifier.release_list == Path("/list")


@pytest.mark.parametrize("name", ["COLOUR", "EGRESS_ROUTES", "VERIFIER_MEASUREMENTS", "VERIFIER"])
def test_variables_that_say_nothing_are_faults(name: str) -> None:
    variable = f"LATENSGATE_PARENT_{name}"
    assert set(faults({}, **{variable: "x"})) == {variable}


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "parent.toml"
    with pytest.raises(SettingsError, match=r"config.*No such file"):
        load_settings(file, {})
    file.write_text("listen = ")
    with pytest.raises(SettingsError, match="config"):
        load_settings(None, {"LATENSGATE_PARENT_CONFIG": str(file)})
    file.write_text('listen = "127.0.0.1:1"\n')
    with pytest.raises(SettingsError, match="database"):
        load_settings(file, {})
    with pytest.raises(SettingsError):
        load_settings(None, {})


def test_deployment(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    with pytest.raises(DeploymentError, match="No such file"):
        load_deployment(file)
    file.write_text(
        'regions = ["us-east-1", "eu-central-1"]\ninvocation_logging = "flag"\n'
        "[models.b]\n[models.a]\n"
    )
    found = load_deployment(file)
    assert ([each.name for each in found.models], found.refuses_logging) == (["a", "b"], False)
    assert len(found.egress_destinations()) == 7
    assert "sts.us-east-1.amazonaws.com:443" in found.egress_destinations()
    assert found.digest.startswith("sha384:")
    with file.open("a") as more:
        more.write(
            '[upstreams.a]\nhost = "a.example"\n[upstreams.b]\nhost = "b.example"\nport = 8443'
        )
    led = load_deployment(file).egress_destinations()
    assert led - found.egress_destinations() == {"a.example:443", "b.example:8443"}
    for text in (
        "regions = []",
        "x = ",
        'regions = ["X"]\ninvocation_logging = "flag"\nmodels = {}',
    ):
        file.write_text(text)
        with pytest.raises(DeploymentError):
            load_deployment(file)


def test_appraisal_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        appraisal_policy(VerifierSettings(release_list=tmp_path / "none"))
    (tmp_path / "list").write_text("{}")
    with pytest.raises(ConfigurationError):
        appraisal_policy(VerifierSettings(release_list=tmp_path / "list"))
    assert appraisal_policy(read().verifier).measurements


@pytest.mark.parametrize(
    "text", ["2026-11-14T09:23:41Z", "1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z"]
)
def test_times(text: str) -> None:
    assert to_rfc3339(from_rfc3339(text) + 0.9) == text


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-14", "2026-11-14T09:23:41", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z"],
)
def test_times_of_another_form(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_rfc3339(text)
