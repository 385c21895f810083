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


KEY = f'upstream_operator_key = "{"ab" * 32}"\n'
HOUSE = """
[upstreams.house]
kind = "openai"
host = "llm.example.com"
location = "our own rack in Frankfurt"
"""
HOUSE_MODEL = """
[models.llama]
upstream = "house"
model_id = "meta-llama/Llama-3.3-70B"
capabilities = "claude"
"""


def with_upstream(extra: str = "", *, house: str = HOUSE, key: str = KEY) -> str:
    return key + DEPLOYMENT + house + HOUSE_MODEL + extra


def test_an_upstream_and_a_route_to_it_are_read(tmp_path: Path) -> None:
    loaded = load_measured_configuration(write(tmp_path, deployment=with_upstream())).deployment
    house = loaded.upstreams["house"]
    assert (house.authority, house.path, house.credential) == ("llm.example.com", "/v1", "bearer")
    route = loaded.models["llama"]
    assert not route.is_bedrock
    assert route.tried_regions == ()
    claude = loaded.models["claude-3.5-sonnet"]
    assert claude.is_bedrock
    assert claude.tried_regions == ("us-east-1",)


def test_another_port_belongs_to_the_authority(tmp_path: Path) -> None:
    text = with_upstream(house=HOUSE + f'port = 8443\ntls_roots = """{CA_PEM}"""\n')
    house = load_measured_configuration(write(tmp_path, deployment=text)).deployment.upstreams
    assert house["house"].authority == "llm.example.com:8443"


def test_several_regions_keep_their_order(tmp_path: Path) -> None:
    text = DEPLOYMENT.replace('region = "us-east-1"', 'regions = ["eu-west-1", "us-east-1"]')
    loaded = load_measured_configuration(write(tmp_path, deployment=text))
    route = loaded.deployment.models["claude-3.5-sonnet"]
    assert route.tried_regions == ("eu-west-1", "us-east-1")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "openai"', 'kind = "other"', "kind"),
        ('"llm.example.com"', '"10.0.0.1"', "host"),
        ('"llm.example.com"', '"LLM.example.com"', "host"),
        ('"llm.example.com"', '"llm.example.com:8443"', "host"),
        ('"llm.example.com"', '"llm"', "host"),
        ("[upstreams.house]", "[upstreams.bedrock]", "Bedrock's own"),
        ('upstream = "house"', 'upstream = "shed"', "no such table"),
        ('upstream = "house"', 'upstream = "house"\nregion = "us-east-1"', "only Bedrock"),
        ('kind = "openai"', 'kind = "openai"\npath = "/v1/"', "path"),
        ('kind = "openai"', 'kind = "openai"\npath = "/v1?x=y"', "path"),
        ('kind = "openai"', 'kind = "openai"\nport = 0', "port"),
        ('kind = "openai"', 'kind = "openai"\ntls_roots = "x"', "no certificate is there"),
        ("upstream_operator_key", "account_key", "account_key"),
        (KEY, "", "needs upstream_operator_key"),
        ("location", "place", "place"),
    ],
)
def test_a_wrong_upstream_names_its_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = with_upstream()
    assert old in text
    write(tmp_path, deployment=text.replace(old, new))
    with pytest.raises(MeasuredConfigurationError, match=says):
        load_measured_configuration(tmp_path)


BROKEN_PEM = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"


def test_roots_must_be_certificates(tmp_path: Path) -> None:
    write(tmp_path, deployment=with_upstream(house=f'{HOUSE}tls_roots = "{BROKEN_PEM}"\n'))
    with pytest.raises(MeasuredConfigurationError, match="no certificates in PEM"):
        load_measured_configuration(tmp_path)


@pytest.mark.parametrize("host", ["bedrock-runtime.us-east-1.amazonaws.com", "x.api.aws"])
def test_aws_is_believed_under_its_own_roots_alone(tmp_path: Path, host: str) -> None:
    house = HOUSE.replace("llm.example.com", host)
    write(tmp_path, deployment=with_upstream(house=house))
    load_measured_configuration(tmp_path)
    write(tmp_path, deployment=with_upstream(house=house + f'tls_roots = """{CA_PEM}"""\n'))
    with pytest.raises(MeasuredConfigurationError, match=r"those of trust\.toml alone"):
        load_measured_configuration(tmp_path)


def test_one_host_has_one_set_of_roots(tmp_path: Path) -> None:
    shed = HOUSE.replace("house", "shed") + f'tls_roots = """{CA_PEM}"""\n'
    write(tmp_path, deployment=with_upstream(shed))
    with pytest.raises(MeasuredConfigurationError, match="two sets of roots"):
        load_measured_configuration(tmp_path)


def test_an_upstream_that_asks_no_credential_needs_no_operator_key(tmp_path: Path) -> None:
    text = with_upstream(house=HOUSE + 'credential = "none"\n', key="")
    deployment = load_measured_configuration(write(tmp_path, deployment=text)).deployment
    assert deployment.upstreams["house"].credential == "none"


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("", "exactly one of"),
        ('region = "us-east-1"\nregions = ["eu-west-1"]', "exactly one of"),
        ('regions = ["us-east-1", "us-east-1"]', "stands twice"),
        ('regions = ["us-east-1", "us-west-2"]', "not one of regions"),
        ('regions = ["us_east_1"]', "regions"),
    ],
)
def test_a_route_stays_within_the_regions(tmp_path: Path, route: str, says: str) -> None:
    write(tmp_path, deployment=DEPLOYMENT.replace('region = "us-east-1"', route))
    with pytest.raises(MeasuredConfigurationError, match=says):
        load_measured_configuration(tmp_path)


PROFILE_ARN = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0"


@pytest.mark.parametrize(
    ("model_id", "region", "fits"),
    [
        ("us.amazon.nova-lite-v1:0", "us-east-1", True),
        ("us.amazon.nova-lite-v1:0", "eu-west-1", False),
        ("eu.amazon.nova-lite-v1:0", "eu-west-1", True),
        ("eu.amazon.nova-lite-v1:0", "us-east-1", False),
        (PROFILE_ARN, "eu-west-1", True),
        (PROFILE_ARN, "us-east-1", False),
        ("us-gov.amazon.nova-lite-v1:0", "us-east-1", False),
        ("apac.amazon.nova-lite-v1:0", "us-east-1", False),
        ("jp.amazon.nova-lite-v1:0", "us-east-1", False),
        ("global.amazon.nova-2-lite-v1:0", "us-east-1", False),
        ("openai.gpt-oss-120b-1:0", "eu-west-1", True),
    ],
)
def test_an_inference_profile_stays_in_its_geography(
    tmp_path: Path, model_id: str, region: str, *, fits: bool
) -> None:
    text = DEPLOYMENT.replace("anthropic.claude-3-5-sonnet-20241022-v2:0", model_id)
    write(tmp_path, deployment=text.replace('region = "us-east-1"', f'region = "{region}"'))
    if fits:
        assert load_measured_configuration(tmp_path).deployment.models
        return
    with pytest.raises(MeasuredConfigurationError, match=r"geography|any Region"):
        load_measured_configuration(tmp_path)


def test_us_profiles_stay_out_of_govcloud(tmp_path: Path) -> None:
    text = DEPLOYMENT.replace("anthropic.claude-3-5", "us.anthropic.claude-3-5")
    write(tmp_path, deployment=text.replace("us-east-1", "us-gov-east-1"))
    with pytest.raises(MeasuredConfigurationError, match="geography"):
        load_measured_configuration(tmp_path)
