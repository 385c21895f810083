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
        "4111\n1111\n1111\n1111",
        "4111\r\n1111\r\n1111\r\n1111",
        "3782 822463 10005",
    ),
    Category.IBAN_CODE: (
        "de89370400440532013000",
        "gb29 nwbk 6016 1331 9268 19",
        "GB29-NWBK-6016-1331-9268-19",
        "DE89.3704.0044.0532.0130.00",
        "DE 89 3704 0044 0532 0130 00",
        "DE89\n3704 0044 0532\n0130 00",
        "DE89 3704 0044\r\n0532 0130 00",
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
