from __future__ import annotations

import pytest

from latensgate_enclave.pii import Category, EngineSettings, PIIEngineError, Tier1Engine
from latensgate_enclave.pii.phones import phones

PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE/+a=\n"
PEM_END = "-----END RSA PRIVATE KEY-----"


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


def found(engine: Tier1Engine, text: str, category: Category, hint: str = "") -> list[str]:
    findings = engine.scan(text, categories=frozenset({category}), hint=hint)
    return [text[finding.start : finding.end] for finding in findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail bob@corp.internal.", ["bob@corp.internal"]),
        ("user=ann.lee+x@mail.example.co.uk&b", ["ann.lee+x@mail.example.co.uk"]),
        ("mailto:'o'brien@example.com'", ["o'brien@example.com"]),
        ("josé@exämple.com", ["josé@exämple.com"]),
        ("a\u200bnn@example.com", ["a\u200bnn@example.com"]),
        ("ann%40example.com", ["ann%40example.com"]),
        ("ann [at] example [dot] com", ["ann [at] example [dot] com"]),
        ("lodash@4.17.21 and me@home", []),
    ],
)
def test_emails(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.EMAIL_ADDRESS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111 1111 1111 1111", ["4111 1111 1111 1111"]),
        ("4111-1111-1111-1111.", ["4111-1111-1111-1111"]),
        ("5500005555555559 4111111111111111", ["5500005555555559", "4111111111111111"]),
        ("2223003122003222", ["2223003122003222"]),  # Mastercard, series 2
        ("378282246310005", ["378282246310005"]),
        ("4000000000000000006", ["4000000000000000006"]),  # 19 digits
        ("501800000009", ["501800000009"]),  # 12 digits
        ("12 4111 1111 1111 1111 99", ["4111 1111 1111 1111"]),
        ("4111 1111 1111 1112", []),  # a wrong check digit
        ("x4111111111111111", []),
        ("4111111111111111_", []),
        ("1234567890128", []),  # a right check digit, but no issuer
        ("card 1234567890128", ["1234567890128"]),
        ("card 0000000000000", []),
    ],
)
def test_cards(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.CREDIT_CARD) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GB82WEST12345698765432", ["GB82WEST12345698765432"]),
        ("gb82 west 1234 5698 7654 32", ["gb82 west 1234 5698 7654 32"]),
        (
            "DE89370400440532013000 GB82 WEST 1234 5698 7654 32 now",
            ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"],
        ),
        ("GB82 GB82WEST12345698765432", ["GB82WEST12345698765432"]),
        ("GB82WEST12345698765433", []),  # a wrong check digit
        ("GB82WEST1234569876543", []),  # one short
        ("GB82WEST123456987654321", []),  # one long
        ("ZZ82WEST12345698765432", []),  # no such country
    ],
)
def test_ibans(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.IBAN_CODE) == expected


def test_an_iban_inside_an_iban_is_not_tried_twice(engine: Tier1Engine) -> None:
    # Groups of a valid IBAN that look like the start of another.
    text = "GB82 WEST 1234 5698 7654 32 AB12 CD34 EF56"
    assert found(engine, text, Category.IBAN_CODE) == ["GB82 WEST 1234 5698 7654 32"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+1 (982) 766-8282 x12", ["+1 (982) 766-8282 x12"]),
        ("+447700 921 916", ["+447700 921 916"]),
        ("+1 212 555 0134 2020", ["+1 212 555 0134"]),
        ("+999999999999", []),  # no such country code
        ("(212) 555-0134", ["(212) 555-0134"]),
        ("212.555.0134", ["212.555.0134"]),
        ("2020-01-02 212-555-0134", ["212-555-0134"]),
        ("020 7946 0958", ["020 7946 0958"]),  # in a plan of the default regions
        ("2125550134", ["2125550134"]),
        ("555 1234", []),
        ("call me: 555 1234", ["555 1234"]),
        ("phone 06-12 34 56", ["06-12 34 56"]),
        ("dial (202)5550173", ["(202)5550173"]),
        ("Fax 030 - 1234 56 79", ["030 - 1234 56 79"]),
        ("Phone number - 9876543210", ["9876543210"]),  # and an NHS number by its check digit
        ("call me on 9472 7916", ["9472 7916"]),
        ("They're not answering at 78 651 450", ["78 651 450"]),
        ("call from 2019-2024", []),  # years
        ("phone 2020-01-02 11", []),  # a date, an IP address, an amount, a fraction
        ("phone 10.100.10.10", []),
        ("phone 100 000 000", []),
        ("phone 1234567.1234567", []),
        ("phone 192.168.100.1", []),
        ("phone 123-45-6789", []),
        ("phone 1234567890123456", []),  # too long for any number
        ("phone 12 34 5", []),
        ("$2125550134 a2125550134 2125550134b", []),
    ],
)
def test_phones(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.PHONE_NUMBER) == expected


def test_an_unknown_phone_region_is_refused() -> None:
    with pytest.raises(PIIEngineError):
        phones(["XX"])


def test_phone_regions_are_the_tenants() -> None:
    text = "0612345678"  # in the plan of the Netherlands, not in that of the United States
    dutch = Tier1Engine(EngineSettings(phone_regions=("NL",)))
    american = Tier1Engine(EngineSettings(phone_regions=("US",)))
    assert found(dutch, text, Category.PHONE_NUMBER) == [text]
    assert found(american, text, Category.PHONE_NUMBER) == []
    assert dutch.digest != american.digest


def test_a_region_without_a_national_prefix(engine: Tier1Engine) -> None:
    spanish = Tier1Engine(EngineSettings(phone_regions=("ES",)))
    assert found(spanish, "912345678", Category.PHONE_NUMBER) == ["912345678"]
    assert found(engine, "x 12", Category.PHONE_NUMBER) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", ["10.1.2.3"]),
        ("src:fe80::1, dst 2001:db8::8a2e:370:7334.", ["fe80::1", "2001:db8::8a2e:370:7334"]),
        ("2001:db8::/32", ["2001:db8::/32"]),
        ("fe80::1: up", ["fe80::1"]),
        ("2001:db8:: is", ["2001:db8::"]),
        ("::ffff:10.0.0.1", ["::ffff:10.0.0.1"]),
        (":: and std::vector a::b 12:30:45", []),
        ("host a::b", ["a::b"]),
        ("1:" * 60, []),
    ],
)
def test_ip_addresses(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.IP_ADDRESS) == expected


@pytest.mark.parametrize(
    ("category", "text", "expected"),
    [
        (Category.US_SSN, "219-09-9998", ["219-09-9998"]),
        (Category.US_SSN, "000-09-9998", []),
        (Category.US_SSN, "219099998", []),
        (Category.US_SSN, "my ssn is 219099998", ["219099998"]),
        (Category.MAC_ADDRESS, "01:02:03:04:05:0a 01-02-03-04-05-0A 0102.0304.050a", 3),
        (Category.MAC_ADDRESS, "01:02-03:04:05:0a ff:ff:ff:ff:ff:ff", []),
        (Category.CRYPTO, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", 1),
        (Category.CRYPTO, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", []),
        (Category.UUID, "123e4567-e89b-12d3-a456-426614174000", 1),
        (Category.DATE_TIME, "on 2026-01-02", ["2026-01-02"]),
        (Category.UK_NHS, "943 476 5919", ["943 476 5919"]),
        (Category.URL, "see https://x.example/a?b=1. www.y.example", 2),
        (Category.PRIVATE_KEY, f"a {PEM}{PEM_END} b", [PEM + PEM_END]),
        (Category.PRIVATE_KEY, f"a {PEM}", [PEM]),
        (Category.PASSWORD, "password: Hunter2! x", ["Hunter2!"]),
        (Category.PASSWORD, "DB_PASS = 'a b c'", ["a b c"]),
        (Category.PASSWORD, 'dbPass: "abcd"', ["abcd"]),
        (Category.PASSWORD, "the passcode is 1234", ["1234"]),
        (Category.PASSWORD, "IDENTIFIED BY 'abc'", ["abc"]),
        (Category.PASSWORD, "postgres://me:abc@host/db", ["abc"]),
        (Category.PASSWORD, "the password is required; pass: true; bypass", []),
        (Category.API_KEY, "AKIA" + "Z9" * 8, 1),
        (Category.API_KEY, "sk-ant-" + "a1" * 12, 1),
        (Category.API_KEY, "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", 1),
        (Category.API_KEY, "api_key = 'abcdefghijklmnop1'", ["abcdefghijklmnop1"]),
        (Category.API_KEY, "Bearer abcdefghijklmnop1", ["abcdefghijklmnop1"]),
        (Category.API_KEY, "token: abcdefghijklmnopq bearer 1234567890123456", []),
    ],
)
def test_other_categories(
    engine: Tier1Engine, category: Category, text: str, expected: list[str] | int
) -> None:
    result = found(engine, text, category)
    assert (len(result) if isinstance(expected, int) else result) == expected


def test_the_name_of_a_json_member_is_context(engine: Tier1Engine) -> None:
    assert found(engine, "219099998", Category.US_SSN) == []
    for hint in ("customer ssn", "customer_ssn", "customerSsn", "x" * 1_000 + " ssn"):
        assert found(engine, "219099998", Category.US_SSN, hint=hint) == ["219099998"]
    assert found(engine, "219099998", Category.US_SSN, hint="ssn" + " x" * 50) == []


def test_context_is_whole_words_and_near(engine: Tier1Engine) -> None:
    assert found(engine, "assnx 219099998", Category.US_SSN) == []
    assert found(engine, "ssn a b c d e 219099998", Category.US_SSN) == []
    assert found(engine, "w" * 97 + "ssn 219099998", Category.US_SSN) == []
    assert found(engine, "w " * 100 + "ssn 219099998", Category.US_SSN) == ["219099998"]
    assert found(engine, "w " * 100 + "w" * 200 + "ssn 219099998", Category.US_SSN) == []


@pytest.mark.parametrize(
    "text",
    [
        "Move the bucket from S3 to EKS, then let EC2 and IAM know.",
        "K8s 1.29.3 on x86_64, HTTP/1.1 and RFC 9110; port 8080, 404 Not Found.",
        "GPT-4 and llama-3.1-8b, UTF-8, SHA-256, ISO 8601, us-east-1a.",
        "def f(x): return x[0] + 1  # TODO: O(n) -> O(1)",
    ],
)
def test_short_technical_words_are_no_personal_data(engine: Tier1Engine, text: str) -> None:
    assert engine.scan(text) == ()
