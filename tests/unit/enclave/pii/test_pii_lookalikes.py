"""What looks like personal data and says, by what stands around it, that it is none."""

from __future__ import annotations

import pytest

from latensgate_enclave.pii import Category, Tier1Engine
from latensgate_enclave.pii.apply import acted_on
from latensgate_enclave.pii.findings import Finding, without_explained
from latensgate_shared.pii_names import Action, Direction
from latensgate_shared.pii_policy import Policy, Rule
from pii_found import found


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


@pytest.mark.parametrize(
    "text",
    [
        "Version 7.1.0.12 fixes it",
        '{"version": "7.1.0.12"}',
        "ver. 7.1.0.12, v 7.1.0.12",
        "see section 4.2.10.1 and chapter 3.1.1.2",
        "OID 2.5.4.3",
        "as in Fig. 3.1.1.2 and table 4.2.10.1",
        "1.3.6.1.4.1.311.21.8",
        "Mozilla/5.0 Chrome/131.0.0.0 Safari/537.36",
        "tool-7.1.0.12.tar and tool-7.1.0.12.zip, 7.1.0.12-beta",
        "after release 7.1.0.12",
        "firmware 7.1.0.12",
        "python 3.11.2.0, nginx/1.25.3.1, torch==2.1.0.1",
    ],
)
def test_versions_and_sections_are_no_addresses(engine: Tier1Engine, text: str) -> None:
    assert found(engine, text, Category.IP_ADDRESS) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("release 10.4.0.7 of the lease", ["10.4.0.7"]),  # of a local network: DHCP
        ("conversion 198.51.100.4", ["198.51.100.4"]),
        ("the server 198.51.100.4. It", ["198.51.100.4"]),
        ("localhost/127.0.0.1:9042", ["127.0.0.1"]),
        ("198.51.100.4.443 > 198.51.100.9.5512: Flags", ["198.51.100.4", "198.51.100.9"]),
        ("fe80::2ab:1%wlan0 is up", ["fe80::2ab:1%wlan0"]),
        ("host=2001:db8::7%20and", ["2001:db8::7"]),
        ("if ip==198.51.100.4:", ["198.51.100.4"]),
        ("ip.addr==9.9.9.9", ["9.9.9.9"]),
        ("We run Python. 9.9.9.9 answers", ["9.9.9.9"]),
        ("the new kernel. 9.9.9.9 is down", ["9.9.9.9"]),
        ('{"node": "9.9.9.9"}', ["9.9.9.9"]),
        ("release=198.51.100.4", ["198.51.100.4"]),
        ("version 9.9.9.9 is my IP", ["9.9.9.9"]),
        ("dump-198.51.100.4.zip, 198.51.100.4-beta", ["198.51.100.4", "198.51.100.4"]),
    ],
)
def test_addresses_near_such_words_are_found(
    engine: Tier1Engine, text: str, expected: list[str]
) -> None:
    assert found(engine, text, Category.IP_ADDRESS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Account 6465550123 is open",
        "account number: 6465550123",
        "epoch=1716239022",
        "EAN 4012345678901",
        "Invoice no. 2065550123",
        '"order": "2065550123"',
        "Serial 0017-4422-9981",
        "SSN 536228726",
        "ssn: 005-38-5861",
    ],
)
def test_numbers_of_another_name_are_no_telephones(engine: Tier1Engine, text: str) -> None:
    assert found(engine, text, Category.PHONE_NUMBER) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("about the account: (646) 555-0123", ["(646) 555-0123"]),
        ("about the order call 6465550123", ["6465550123"]),
        ("reorder 6465550123", ["6465550123"]),
        ("call 0353.4282609", ["0353.4282609"]),
        ("call 353.4282609", []),
    ],
)
def test_the_name_has_to_stand_right_before(
    engine: Tier1Engine, text: str, expected: list[str]
) -> None:
    assert found(engine, text, Category.PHONE_NUMBER) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Password: ********",
        "password: xxxxxxxx",
        "password: [REDACTED]",
        "pwd=<your-password>",
        "password: ${APP_PASSWORD}",
        "password = os.getenv('X')",
        "password=request.form['p']",
        "password = ask()",
        '"password": null}',
        "password: string",
        "password - required",
        "a new password within 30days",
        "pass: 12of14",
        "login at home/work",
        "the password policy of 2031 is in force",
        "a password length of 8 is short",
        "my password is 8 characters long",
        "the password was 30days old",
        "the password reset was asked for on 12/05",
        "set 2FA as the password policy",
    ],
)
def test_what_stands_for_a_password_is_none(engine: Tier1Engine, text: str) -> None:
    assert found(engine, text, Category.PASSWORD) == []


def test_numbers_that_go_on_are_no_social_security_numbers(engine: Tier1Engine) -> None:
    for text in ("+380-53-6962", "call +880 23 3614", "lot 219-09-1234-77"):
        assert found(engine, text, Category.US_SSN) == []
    assert found(engine, "+966-54 9914", Category.US_ITIN) == []
    assert found(engine, "219-09-1234 - Ann", Category.US_SSN) == ["219-09-1234"]


def test_what_is_left_of_a_mark_is_no_telephone_alone(engine: Tier1Engine) -> None:
    for text in ("+00 / 1234567x", "+1 / 234567890x", "+011/1234567x"):
        assert found(engine, text, Category.PHONE_NUMBER) == []


@pytest.mark.parametrize(
    "text",
    [
        "thanks @acme.studio for it",
        "git clone git@github.com:acme/site.git",
        "redis://ann:OldHarbour7@cache.example:6379/0",
        "a gift card 6000 4912 3456 7890",
        "the ratio of 5100 to 2200",
        "call +49 151 1234 5678",  # the right check digit of a card with 13 digits, by chance
    ],
)
def test_other_lookalikes(engine: Tier1Engine, text: str) -> None:
    for category in (Category.EMAIL_ADDRESS, Category.CREDIT_CARD):
        assert found(engine, text, category) == []


def test_what_is_certain_goes_where_it_is_part_of_something_longer() -> None:
    iban = Finding(Category.IBAN_CODE, 4, 30, 1.0, "i")
    card = Finding(Category.CREDIT_CARD, 10, 24, 1.0, "c")
    same = Finding(Category.CREDIT_CARD, 4, 30, 1.0, "c")
    assert without_explained([iban, card], rank=lambda _: 0) == (iban,)
    assert without_explained([iban, same], rank=lambda _: 0) == (same, iban)
    stricter = {Category.CREDIT_CARD: 1, Category.IBAN_CODE: 0}
    assert without_explained([iban, card], rank=lambda each: stricter[each.category]) == (
        iban,
        card,
    )


def test_what_an_allow_list_lets_pass_hides_nothing_stricter() -> None:
    text = "FR7641111111111111111"
    findings = [
        Finding(Category.IBAN_CODE, 0, len(text), 1.0, "i"),
        Finding(Category.CREDIT_CARD, 4, 20, 1.0, "c"),
    ]
    prompt = Direction.PROMPT
    policy = Policy(
        {
            (Category.IBAN_CODE, prompt): Rule(Action.FLAG),
            (Category.CREDIT_CARD, prompt): Rule(Action.MASK),
        },
        {frozenset({text.casefold()}): {(Category.IBAN_CODE, prompt): Rule(Action.MASK)}},
    )
    acted = acted_on(text, findings, policy, prompt)
    assert [(each.finding.category, each.action) for each in acted] == [
        (Category.IBAN_CODE, Action.FLAG),
        (Category.CREDIT_CARD, Action.MASK),
    ]


def test_a_card_in_the_groups_of_an_iban(engine: Tier1Engine) -> None:
    text = "to ES21-2604-6914-2839-7501-3522 please"
    findings = without_explained(engine.scan(text), rank=lambda _: 0)
    assert [each.category for each in findings] == [Category.IBAN_CODE]


def test_a_plus_with_no_country_behind_it_is_no_part_of_a_telephone_number(
    engine: Tier1Engine,
) -> None:
    text = "+0 / 030 1234567 / 040 7654321"
    assert found(engine, text, Category.PHONE_NUMBER) == ["040 7654321"]


@pytest.mark.parametrize(
    "text",
    [
        "note=charge+card+4111111111111111&to=me",
        "+4111 1111 1111 1111,09/31",
        "card%3A+4111111111111111",
        "+371449635398431",
    ],
)
def test_a_card_behind_a_plus_is_a_card(engine: Tier1Engine, text: str) -> None:
    (card,) = found(engine, text, Category.CREDIT_CARD)
    assert card in text


@pytest.mark.parametrize("number", ["+491512345678", "+447400123456", "+8613912345678"])
def test_a_telephone_number_abroad_is_none(engine: Tier1Engine, number: str) -> None:
    assert found(engine, number, Category.CREDIT_CARD) == []
    assert found(engine, number, Category.PHONE_NUMBER) == [number]


@pytest.mark.parametrize(
    "text", ["+219-09-1234,Ann", "ssn=+380-53-6962", "SSN: 219-09-1234-1", "SSN 219-09-1234-2031"]
)
def test_a_social_security_number_that_is_named_or_behind_a_plus_is_one(
    engine: Tier1Engine, text: str
) -> None:
    assert len(found(engine, text, Category.US_SSN)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Ticket number 7719204, still open",
        "reservation no. 6620178345",
        "Policy # 662017834",
        "student number 40918273",
        "waybill 6620 1783 45",
        "our ref. no.: 66 20 17 83 45",
        "Job reference 0049-6620-17",
        "part 330-771-20415",
        "Kundennummer 6620-17834",
        "factuurnr. 6620-17834",
        "Pedido 6620/17834",
        "NHS number 943 476 5919",
        "Meeting ID: 966 2017 8345",
        "join by +1 646 555 0123,,96620178345#",
        "incident 2021-66201, closed",
        "part 646-555-012-C is out",
        "Dover, DE 19901-4471",
    ],
)
def test_what_is_counted_or_filed_is_no_telephone(engine: Tier1Engine, text: str) -> None:
    telephones = [each for each in found(engine, text, Category.PHONE_NUMBER) if each[0] != "+"]
    assert telephones == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Caller ID: 0161 496 0123", ["0161 496 0123"]),
        ("in that case 0161 496 0123", ["0161 496 0123"]),
        ("customer number 0161 496 0123", ["0161 496 0123"]),
        ("NHS helpline 212-555-0123", ["212-555-0123"]),
        ("ticket number (646) 555-0123", ["(646) 555-0123"]),
        ("ph 97215-3164", ["97215-3164"]),
        ("call 0161 496 0123 - Ann", ["0161 496 0123"]),
    ],
)
def test_telephones_behind_such_words_are_found(
    engine: Tier1Engine, text: str, expected: list[str]
) -> None:
    assert found(engine, text, Category.PHONE_NUMBER) == expected


def test_the_number_of_a_physician_is_a_record(engine: Tier1Engine) -> None:
    assert found(engine, "NPI: 1619023447", Category.RECORD_NUMBER) == ["1619023447"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("room 12 / 0171 2345678", "0171 2345678"),
        ("flat 12 / 020 7946 0958", "020 7946 0958"),
        ("4111 1111 1111 1111 / 020 7946 0958", "020 7946 0958"),
        ("back in 30 sec. 020 7946 0958", "020 7946 0958"),
        ("phone for this order: 020 7946 0958", "020 7946 0958"),
        ("They lost my passport. 0171 2345678 is my number", "0171 2345678"),
        ("contact for the invoice: 0171 2345678", "0171 2345678"),
        ("Ann,,020 7946 0958,Leeds", "020 7946 0958"),
        ("4711,,0171 2345678", "0171 2345678"),
    ],
)
def test_telephones_beside_other_numbers_and_words_are_found(
    engine: Tier1Engine, text: str, expected: str
) -> None:
    assert expected in found(engine, text, Category.PHONE_NUMBER)


def test_who_may_be_somebody_stays_a_mail_address(engine: Tier1Engine) -> None:
    text = "see https://desk.example:ann.hill@mail.example for it"
    assert found(engine, text, Category.EMAIL_ADDRESS) == ["ann.hill@mail.example"]
