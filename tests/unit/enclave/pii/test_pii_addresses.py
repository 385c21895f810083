"""Street addresses as countries write them, from what leads them in to the postal code."""

from __future__ import annotations

import pytest

from latensgate_enclave.pii import Category, Tier1Engine
from pii_found import found


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


@pytest.mark.parametrize(
    "address",
    [
        "Level 3, 44 Bridge Street, Perth WA 6000",
        "Lot 7 Ferny Rd, Coburg VIC 3058",
        "Apartment 6, 91 Harbour Road",
        "Flat C, 91 Harbour Road",
        "5 Canal Plaza, North Tower, Suite 310, San Diego, California 92101",
        "RR 4 Box 77, Salem, MO 65560",
        "6 rue du Lac, Bât. B, 74000",
        "Calle Luna 8, 2º A, 28004 Madrid",
        "Rua do Sol 14, 3.º Dto, 4000-529 Porto",
        "Praterstraße 12/5, 1020 Wien",
        "Herengracht 15-III, 1015 BA Amsterdam",
        "Herengracht 15-C, 1015 BA Amsterdam",
        "Ivy Cottage, Mill Lane, Great Haddon, Norfolk NR9 4QT",
        "The Old Forge, Church Street, Ashwell, SG7 5LY",
        "8 The Green, Datchet",
        "8 The Avenue, Ely CB7 4DL",
        "#8, 3rd Main, Jayanagar, Bengaluru 560041",
        "21 The Maltings, Ware, SG12 8HG",
        "No. 8, 3rd Main, Jayanagar, Bengaluru 560041",
        "C-104, Green Park Apartments, Link Road, Mumbai 400053",
        "Plot No. 9, Sector 21, Noida, Uttar Pradesh 201301",
        "H.No. 4-1-88/2, Road No. 3, Kukatpally, Hyderabad - 500072",
    ],
)
def test_they_are_found_whole(engine: Tier1Engine, address: str) -> None:
    for text in (f"it went to {address}; thanks", address, f"Address: {address}\nand more"):
        assert found(engine, text, Category.STREET_ADDRESS) == [address]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("she left 14 Oak Street and went down the drive", ["14 Oak Street"]),
        ("she left 14 Oak Street apt 3 and went", ["14 Oak Street apt 3"]),
        ("at 14 Old Court Road, Dover, DE 19901", ["14 Old Court Road, Dover, DE 19901"]),
        ("we moved to 14 oak st in may", ["14 oak st"]),
        ("pickup 310 e 52nd st, ring twice", ["310 e 52nd st"]),
        ("there were 14 open st", []),
        ("a 2 way street", []),
        ("my home is a 5 minute drive away", []),
        ("Dear Ann, we were in London, near E8 3LL", []),
        ("12, 3 items, 4 boxes, Batch 123456", []),
        ("the top 10 The Green Room, again", []),
    ],
)
def test_they_end_where_the_sentence_goes_on(
    engine: Tier1Engine, text: str, expected: list[str]
) -> None:
    assert found(engine, text, Category.STREET_ADDRESS) == expected


def test_no_address_is_as_long_as_a_page(engine: Tier1Engine) -> None:
    rows = ", ".join(["Old Mill Road", "x" * 300, "Link Road", "Pune 411001"])
    assert found(engine, f"No. 8, {rows}", Category.STREET_ADDRESS) == ["8, Old Mill Road"]
