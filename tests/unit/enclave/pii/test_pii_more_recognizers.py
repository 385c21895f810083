"""Street addresses, record numbers, wrong check digits, encoded texts, other languages."""

from __future__ import annotations

import base64

import pytest

from latensgate_enclave.pii import Category, EngineSettings, PIIEngineError, Tier1Engine
from latensgate_enclave.pii import engine as engine_module
from latensgate_enclave.pii.decoded import unescaped
from latensgate_enclave.pii.errors import PIITooLargeError
from pii_found import found


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at 12 Baker Street, now", ["12 Baker Street"]),
        ("8418 Aspen Dr, Springfield, SC 76456.", ["8418 Aspen Dr, Springfield, SC 76456"]),
        ("1600 Amphitheatre Pkwy", ["1600 Amphitheatre Pkwy"]),
        ("742 N. Evergreen Ter Apt 4B, then", ["742 N. Evergreen Ter Apt 4B"]),
        ("10 Downing Street, London SW1A 2AA", ["10 Downing Street, London SW1A 2AA"]),
        ("6750 Koskikatu 25 Apt. 864", ["6750 Koskikatu 25 Apt. 864"]),
        ("Musterstraße 12, 10115 Berlin", ["Musterstraße 12, 10115 Berlin"]),
        ("am Alten Platz 3 war", ["Alten Platz 3"]),
        ("12 rue de la Paix, 75002 Paris", ["12 rue de la Paix, 75002"]),
        ("Calle de Alcalá 45, hoy", ["Calle de Alcalá 45"]),
        ("P.O. Box 1234, Salem, NY 58044", ["P.O. Box 1234, Salem, NY 58044"]),
        ("PSC 7951, Box 9972\nAPO AA 69974", ["PSC 7951, Box 9972\nAPO AA 69974"]),
        ("in Springfield, IL 62704", ["Springfield, IL 62704"]),
        ("lives at 45 maple avenue", ["45 maple avenue"]),
        ("call 555-0143, at 12 Elm Street", ["12 Elm Street"]),
        ("7 Stone Knoll, Norton, OH 44203", ["7 Stone Knoll, Norton, OH 44203"]),
        ("Flat 2, 7 Stone Ferry, Ely CB7 4DL", ["Flat 2, 7 Stone Ferry, Ely CB7 4DL"]),
        ("9 Kent Rd, Perth WA 6000", ["9 Kent Rd, Perth WA 6000"]),
        ("80 Bay St, Toronto, ON M5J 2N8", ["80 Bay St, Toronto, ON M5J 2N8"]),
        ("14 Hill Road, Pune - 411001", ["14 Hill Road, Pune - 411001"]),
        ("H.No. 14, Rao Nagar, Pune 411001", ["H.No. 14, Rao Nagar, Pune 411001"]),
        ("Am Hang 3, 04109 Leipzig", ["Am Hang 3, 04109 Leipzig"]),
        ("Kirchring 4\n1017 AB Assen", ["Kirchring 4\n1017 AB Assen"]),
        ("ul. Polna 4/12, 00-590 Radom", ["ul. Polna 4/12, 00-590 Radom"]),
        ("C/ Luna 8 Piso 2, 28013 Toledo", ["C/ Luna 8 Piso 2, 28013 Toledo"]),
        (
            "Rua Nova, 16\nCentro\n20040-020 Belo / MG",
            ["Rua Nova, 16\nCentro\n20040-020 Belo / MG"],
        ),
        ("4 allée Verte", ["4 allée Verte"]),
        ("Boîte postale 77", ["Boîte postale 77"]),
        ("Gül Caddesi No: 7", ["Gül Caddesi No: 7"]),
        ("千葉県市川市原木2丁目5番8号", ["千葉県市川市原木2丁目5番8号"]),
        ("I live at 19 Stone Knoll", ["19 Stone Knoll"]),
        ("Address: Kirchring 4", ["Kirchring 4"]),
        ("we saw 19 Stone Knoll and the Ring 4", []),
        ("5500 0055 5555 5559 plz", []),
        ("March 5, 2024 Meeting", []),
        ("at 9543 1819 St. John Street Suite 6", ["9543 1819 St. John Street Suite 6"]),
        ("5 Oak Street, 2nd Floor, Troy, NY 12180", ["5 Oak Street, 2nd Floor, Troy, NY 12180"]),
        (
            "Av. Brasil, 15 - Centro, Natal - RN, 59012-100",
            ["Av. Brasil, 15 - Centro, Natal - RN, 59012-100"],
        ),
        ("8 bd Pasteur", ["8 bd Pasteur"]),
        ("we walked 5 miles down the road", []),
        ("it took 20 minutes the other way", []),
        ("3 easy ways", []),
        ("there are 4 old houses in this court", []),
        ("100 people in 20 big brown big street", []),
        ("see v1.12 Main Street", []),
        ("the 3 cats unit 5", []),
        ("During 1971 it rained", []),
    ],
)
def test_street_addresses(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.STREET_ADDRESS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MRN-7419342, see", ["MRN-7419342"]),
        ('"mrn": "A1234567"', ["A1234567"]),
        ("Patient ID: 00123-44", ["00123-44"]),
        ("policy number is PX-558821/01", ["PX-558821/01"]),
        ("employee #12345", ["12345"]),
        ("claim: 2023-11-8842", ["2023-11-8842"]),
        ("member EMP-00421", ["EMP-00421"]),
        ("RFC-23501 and ISO-27001", []),
        ("in case 12 of 20", []),
        ("policy no 12", []),
        ("file: 1abcd", []),
    ],
)
def test_record_numbers(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.RECORD_NUMBER) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SSN 833-64-209l, phone", ["833-64-209l"]),
        ("ssn: 8Sl-27-4668", ["8Sl-27-4668"]),
        ('"social security no": "S33 13 1794"', ["S33 13 1794"]),
        ("Social Security number is 54O311078.", ["54O311078"]),
        ("SSN536228726", ["536228726"]),
        ("SSN 536-22-8726", ["536-22-8726"]),  # Presidio's own
        ("SSN 000-00-0000", []),  # never given out; nothing misread in it
        ("SSN lOO-SO-BIll", []),  # more letters than digits
        ("order 833-64-209l", []),
        ("SSN 833-64-209lx", []),
    ],
)
def test_social_security_numbers_from_scanned_paper(
    engine: Tier1Engine, text: str, expected: list[str]
) -> None:
    assert found(engine, text, Category.US_SSN) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111 1111 1111 1112", ["4111 1111 1111 1112"]),
        ("3782-822463-10006", ["3782-822463-10006"]),
        ("card 4111111111111112", ["4111111111111112"]),
        ("4111111111111112", []),  # any number, without a context word
        ("4111 1111 1111 1111", []),  # right
        ("9111 1111 1111 1112", []),  # no issuer
        ("card 411111111112", []),  # no such length
    ],
)
def test_cards_with_a_wrong_check_digit(
    engine: Tier1Engine, text: str, expected: list[str]
) -> None:
    assert found(engine, text, Category.CREDIT_CARD_INVALID) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GB82WEST12345698765433", ["GB82WEST12345698765433"]),
        ("DE88 3704 0044 0532 0130 00 now", ["DE88 3704 0044 0532 0130 00"]),
        ("GB82WEST12345698765432", []),
        ("GB82 WEST abcd efgh ijkl mn", []),
        (
            "DE89370400440532013000 GB82 WEST 1234 5698 7654 33",
            ["GB82 WEST 1234 5698 7654 33"],
        ),
    ],
)
def test_ibans_with_wrong_check_digits(engine: Tier1Engine, text: str, expected: list[str]) -> None:
    assert found(engine, text, Category.IBAN_CODE_INVALID) == expected


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to%3D%61nn%40example%2Ecom", "%61nn%40example%2Ecom"),
        (r"ann\u0040example.com", r"ann\u0040example.com"),
        ("ann&#64;example&#x2e;com x", "ann&#64;example&#x2e;com"),
        ("jos%C3%A9@example.com", "jos%C3%A9@example.com"),
        (f"x {_base64('mail ann@example.com')} y", _base64("mail ann@example.com")),
        (_base64("ann@example.com, é").rstrip("="), _base64("ann@example.com, é").rstrip("=")),
        (f"{_base64('ann@example.com >?>?')}", _base64("ann@example.com >?>?")),
    ],
)
def test_what_is_encoded_is_found(engine: Tier1Engine, text: str, expected: str) -> None:
    assert found(engine, text, Category.EMAIL_ADDRESS) == [expected]
    safe = text.translate(str.maketrans("+/", "-_"))
    assert len(found(engine, safe, Category.EMAIL_ADDRESS)) == 1


def test_context_counts_before_an_encoded_word(engine: Tier1Engine) -> None:
    word = _base64("219099998 for you")
    (finding,) = engine.scan(f"ssn {word}", categories=frozenset({Category.US_SSN}))
    assert finding.score == 0.4
    assert not engine.scan(word, categories=frozenset({Category.US_SSN}))
    (card,) = engine.scan(_base64("4111111111111111"))
    assert card.score == 0.99  # the word is not the card, so it hides nothing else


def test_what_decodes_to_no_text_is_left_alone(engine: Tier1Engine) -> None:
    assert unescaped("%ZZ &#99999999; \\u12").text == "%ZZ &#99999999; \\u12"
    assert unescaped("&#1114112;&#xFFFFFF;%FF").text == "&#1114112;&#xFFFFFF;\ufffd"
    for text in ("/usr/share/common/licenses", "internationalization", "=" * 40, "A" * 17):
        assert engine.scan(text) == ()


def test_too_many_findings_over_all_scans(
    engine: Tier1Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PII_FINDINGS_MAX_COUNT", 2)
    with pytest.raises(PIITooLargeError):
        engine.scan("a@b.cc 10.1.2.3 10.1.2.4%20")


@pytest.mark.parametrize(
    ("language", "text", "category"),
    [
        ("de", "Telefon 45 32 88 12", Category.PHONE_NUMBER),
        ("de", "Kreditkarte 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("fr", "carte bancaire 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("es", "tarjeta 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("it", "carta 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("nl", "kaartnummer 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("pt", "pagamento cartão 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("pt", "cartão 4111111111111112", Category.CREDIT_CARD_INVALID),
        ("pt", "telemóvel 45 32 88 12", Category.PHONE_NUMBER),
        ("fr", "numéro 45 32 88 12", Category.PHONE_NUMBER),
    ],
)
def test_context_in_other_languages(
    engine: Tier1Engine, language: str, text: str, category: Category
) -> None:
    settings = EngineSettings(frozenset({category}), languages=("en", language))
    localized = Tier1Engine(settings)
    assert len(found(localized, text, category)) == 1
    assert not found(engine, text, category)
    assert localized.digest != Tier1Engine(EngineSettings(frozenset({category}))).digest


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(PIIEngineError):
        Tier1Engine(EngineSettings(languages=("xx",)))
