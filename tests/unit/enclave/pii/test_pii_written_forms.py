"""Forms in which people write what tier 1 finds: in prose, in columns, in forms, in words."""

from __future__ import annotations

import pytest

from latensgate_enclave.pii import Category, Tier1Engine


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


WRITTEN = {
    Category.EMAIL_ADDRESS: (
        "JOHN_SMITH@Gmail.COM",
        "o'connor.pat@my-company.io",
        "müller@beispiel.de",
        "first.last @ example.com",
        "first.last@ example.com",
        "jane(dot)q [dot] doe(at)example(dot)com",
        "jane (at) example (dot) com",
        "jane at example dot com",
        "jane AT mail dot example DOT co",
    ),
    Category.CREDIT_CARD: (
        "4111 1111 1111 1111",
        "4111.1111.1111.1111",
        "4111/1111/1111/1111",
        "4111_1111_1111_1111",
        "4111  1111  1111  1111",
        "4111 - 1111 - 1111 - 1111",
        "4111 1111  1111 1111",
        "4111\t1111\t1111\t1111",
        "4111\n1111\n1111\n1111",
        "4111\r\n1111\r\n1111\r\n1111",
        "3782 822463 10005",
        "3506 4410 0873 2108",
    ),
    Category.IBAN_CODE: (
        "de89370400440532013000",
        "gb29 nwbk 6016 1331 9268 19",
        "GB29-NWBK-6016-1331-9268-19",
        "DE89.3704.0044.0532.0130.00",
        "DE 89 3704 0044 0532 0130 00",
        "DE89\n3704 0044 0532\n0130 00",
        "DE89 3704 0044\r\n0532 0130 00",
        "DE89/3704/0044/0532/0130/00",
        "DE89_3704_0044_0532_0130_00",
        "DE89  3704  0044  0532  0130  00",
        "GB96 ABCD 1234 5678 9012 3",
        "gb96abcd1234567890123",
    ),
    Category.US_SSN: ("536-90-4399", "536 90 4399", "536.90.4399", "536\u201390\u20134399"),
    Category.IP_ADDRESS: (
        "2001:db8::1",
        "::ffff:192.0.2.128",
        "192[.]168[.]1[.]10",
        "192(.)168(.)1(.)10",
        "10[dot]20[dot]30[dot]40",
    ),
    Category.PHONE_NUMBER: (
        "(415)555-2671",
        "415 - 555 - 2671",
        "+44 (0)20 7946 0958",
        "0049 30 1234567",
        "011 44 20 7946 0958",
        "001 415 555 2671",
        "06.12.34.56.78",
        "+86 138 0013 8000",
        "415-555-2671 ext. 123",
        "(+44) 20 7946 0958",
        "0171 / 555 12 34",
    ),
}


@pytest.mark.parametrize(
    ("category", "written"),
    [(category, each) for category, forms in WRITTEN.items() for each in forms],
)
def test_it_is_found_whole(engine: Tier1Engine, category: Category, written: str) -> None:
    for text in (f"It is {written}.", f"({written})", f"x: {written}\nmore", written):
        found = [each for each in engine.scan(text) if each.category is category]
        assert [text[each.start : each.end] for each in found] == [written]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("He arrived at school dot to dot", Category.EMAIL_ADDRESS),
        ("Look at example dot dot", Category.EMAIL_ADDRESS),
        ("See you @ 5.30pm", Category.EMAIL_ADDRESS),
        ("The build took 4111.1111.1111.1112 steps", Category.CREDIT_CARD),
        ("9111.1111.1111.1111", Category.CREDIT_CARD),
        ("In 2021 there were many people in 22 towns", Category.IBAN_CODE),
        ("is 26 1234 5678 9012 3456 7890 1234", Category.IBAN_CODE),
        ("300[.]1[.]1[.]1", Category.IP_ADDRESS),
        ("1[.]2[.]3", Category.IP_ADDRESS),
        ("15 - 30 - 4500", Category.PHONE_NUMBER),
        ("00999 12 3456 7890", Category.PHONE_NUMBER),
    ],
)
def test_it_is_none(engine: Tier1Engine, text: str, category: Category) -> None:
    assert [each for each in engine.scan(text) if each.category is category] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://wa.me/4915155512345?text=hi", "4915155512345"),
        ("api.whatsapp.com/send?phone=+4915155512345", "+4915155512345"),
        ("電話は03-5551-2345です", "03-5551-2345"),
        ("+49 221 555 1234", "+49 221 555 1234"),
    ],
)
def test_telephones_in_links_and_between_letters(
    engine: Tier1Engine, text: str, expected: str
) -> None:
    found = engine.scan(text, categories=frozenset({Category.PHONE_NUMBER}))
    assert [text[each.start : each.end] for each in found] == [expected]


@pytest.mark.parametrize("mark", [" / ", "/", " - "])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("+44 161 496 0001", "0161 4960002"),
        ("0161 496 0001", "0161 496 0002"),
        ("+972-50-555-4567", "050-5554567"),
    ],
)
def test_two_telephones_with_a_mark_between(
    engine: Tier1Engine, first: str, second: str, mark: str
) -> None:
    text = f"call {first}{mark}{second} now"
    found = engine.scan(text, categories=frozenset({Category.PHONE_NUMBER}))
    covered = {place for each in found for place in range(each.start, each.end)}
    start, end = text.index(first), text.index(second) + len(second)
    assert {place for place in range(start, end) if text[place].isdigit()} <= covered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SS# 536904399", "536904399"),
        ("Soc. Sec. No.: 536904399", "536904399"),
        ("social sec #536-90-4399", "536-90-4399"),
        ("SSN 536-90 4399", "536-90 4399"),
        ('"socialSecurityNumber":"536904399"', "536904399"),
        ("social_security_no=536904399", "536904399"),
        ("ssn: 5 3 6 9 0 4 3 9 9", "5 3 6 9 0 4 3 9 9"),
    ],
)
def test_social_security_numbers_behind_their_names(
    engine: Tier1Engine, text: str, expected: str
) -> None:
    found = engine.scan(text, categories=frozenset({Category.US_SSN}))
    assert [text[each.start : each.end] for each in found] == [expected]


@pytest.mark.parametrize("number", ["666-90 4399", "536-00 4399", "536-90 0000", "555 55-5555"])
def test_social_security_numbers_that_nobody_has(engine: Tier1Engine, number: str) -> None:
    assert engine.scan(f"SSN {number}", categories=frozenset({Category.US_SSN})) == ()


def test_an_iban_of_another_length_needs_right_check_digits(engine: Tier1Engine) -> None:
    wanted = frozenset({Category.IBAN_CODE})
    (finding,) = engine.scan("GB96ABCD1234567890123", categories=wanted)
    assert finding.score < 1
    assert engine.scan("GB97ABCD1234567890123", categories=wanted) == ()


def test_only_old_maestro_cards_start_with_a_zero(engine: Tier1Engine) -> None:
    wanted = frozenset({Category.CREDIT_CARD})
    assert len(engine.scan("it is 060412345674", categories=wanted)) == 1
    assert engine.scan("card 060512345673", categories=wanted) == ()
    assert engine.scan("card 060412345675", categories=wanted) == ()
