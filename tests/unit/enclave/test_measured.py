from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from latensgate_enclave.measured import MeasuredConfigurationError, load_measured_configuration

POLICY = """
[calls]
model_timeout_ms = 60000
max_concurrent = 64
[capabilities]
claude = ["tools", "temperature"]
[pii.floor]
EMAIL_ADDRESS = "flag"
"""
DEPLOYMENT = """
account = "123456789012"
regions = ["us-east-1", "eu-west-1"]
service_role_arn = "arn:aws:iam::123456789012:role/latensgate"
key_admin_role_arn = "arn:aws:iam::123456789012:role/admin"
invocation_logging = "refuse"
[models."claude-3.5-sonnet"]
model_id = "anthropic.claude-3-5-sonnet-20241022-v2:0"
region = "us-east-1"
capabilities = "claude"
"""


def certificate_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


CA_PEM = certificate_pem()
FINGERPRINT = hashlib.sha256(ssl.PEM_cert_to_DER_cert(CA_PEM)).hexdigest()
TRUST = f'flavour = "sim"\ntls_root_sha256 = ["{FINGERPRINT}"]\n'


def write(folder: Path, **changed: str) -> Path:
    files = {"policy": POLICY, "deployment": DEPLOYMENT, "trust": TRUST, **changed}
    for name in ("policy", "deployment", "trust"):
        (folder / f"{name}.toml").write_text(files[name])
    (folder / "ca.pem").write_text(files.get("ca", CA_PEM))
    return folder


def test_the_four_files_become_one_frozen_value(tmp_path: Path) -> None:
    loaded = load_measured_configuration(write(tmp_path))
    assert loaded.deployment.regions == ("us-east-1", "eu-west-1")
    assert loaded.deployment.models["claude-3.5-sonnet"].region == "us-east-1"
    assert loaded.policy.capabilities["claude"] == {"tools", "temperature"}
    assert loaded.policy.calls.max_concurrent == 64
    assert loaded.trust.flavour == "sim"
    assert loaded.policy_digest == "sha384:" + hashlib.sha384(POLICY.encode()).hexdigest()
    assert loaded.deployment_digest == "sha384:" + hashlib.sha384(DEPLOYMENT.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("policy", "max_concurrent = 64", "max_concurrent = 0", r"max_concurrent"),
        ("policy", "max_concurrent = 64", "", r"max_concurrent"),
        ("policy", "max_concurrent = 64", "max_concurrent = '64'", r"max_concurrent"),
        ("policy", "model_timeout_ms = 60000", "model_timeout_ms = 840001", r"model_timeout_ms"),
        ("policy", "[calls]", "extra = 1\n[calls]", r"extra"),
        ("policy", "[calls]", "[calls", r"policy.toml"),
        ("deployment", '"123456789012"', '"12345678901"', r"account"),
        ("deployment", '"123456789012"', '"123456789012\\n"', r"account"),
        ("deployment", '["us-east-1", "eu-west-1"]', "[]", r"regions"),
        ("deployment", '"eu-west-1"', '"eu_west_1"', r"regions"),
        ("deployment", "role/latensgate", "user/latensgate", r"service_role_arn"),
        ("deployment", "123456789012:role/admin", "210987654321:role/admin", r"another account"),
        ("deployment", '"refuse"', '"ignore"', r"invocation_logging"),
        ("deployment", 'region = "us-east-1"', 'region = "us-west-2"', r"not one of regions"),
        ("deployment", 'capabilities = "claude"', 'capabilities = "x"', r"no such row"),
        ("trust", "sim", "test", r"flavour"),
        ("trust", "FINGERPRINT", "0" * 64, r"not exactly those"),
    ],
)
def test_a_wrong_value_names_its_key(
    tmp_path: Path, name: str, old: str, new: str, says: str
) -> None:
    text = {"policy": POLICY, "deployment": DEPLOYMENT, "trust": TRUST}[name]
    old = old.replace("FINGERPRINT", FINGERPRINT)  # random, so it cannot stand in a test's name
    assert old in text
    write(tmp_path, **{name: text.replace(old, new)})
    with pytest.raises(MeasuredConfigurationError, match=says):
        load_measured_configuration(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "trust.toml").unlink()
    with pytest.raises(MeasuredConfigurationError, match=r"trust\.toml"):
        load_measured_configuration(tmp_path)


def test_a_second_certificate_in_the_ca_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ca=CA_PEM + certificate_pem())
    with pytest.raises(MeasuredConfigurationError, match="not exactly those"):
        load_measured_configuration(tmp_path)


def test_a_broken_ca_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ca="-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n")
    with pytest.raises(MeasuredConfigurationError, match="base64"):
        load_measured_configuration(tmp_path)
