"""Context words in other languages than English.

Patterns and check digits are the same everywhere; the words before a number are not. A tenant's
settings name the languages of its texts; more of them means more context, and so more findings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from latensgate_enclave.pii.errors import PIIEngineError
from latensgate_enclave.pii.findings import Category
from latensgate_enclave.pii.recognizer import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latensgate_enclave.pii.recognizer import Recognizer

DEFAULT_LANGUAGES: Final = ("en",)
_PHONE: Final = Category.PHONE_NUMBER
_CARD: Final = Category.CREDIT_CARD
_BAD_CARD: Final = Category.CREDIT_CARD_INVALID
_BANK: Final = Category.US_BANK_NUMBER
_RECORD: Final = Category.RECORD_NUMBER
_ADDRESS: Final = Category.STREET_ADDRESS
_DATE: Final = Category.DATE_TIME

# As the view has them: letters have lost their marks, so "numéro" reads as "numero". A letter that
# is not ASCII even then, as the German sharp s, ends a word.
_WORDS: Final[dict[str, dict[Category, str]]] = {
    "en": {},
    "de": {
        _PHONE: "anruf anrufen fon handy handynummer mobil mobilnummer nummer ruf rufnummer telefon"
        " telefonnummer durchwahl festnetz",
        _CARD: "karte kartennummer kreditkarte zahlung",
        _BANK: "bank konto kontonummer",
        _RECORD: "akte aktenzeichen kunde kundennummer mitglied patient personalnummer police"
        " versicherungsnummer",
        _ADDRESS: "adresse anschrift wohnhaft wohnt lieferung",
        _DATE: "geboren geburtsdatum datum",
    },
    "fr": {
        _PHONE: "appel appeler appelez fixe mobile numero phone portable tel telephone joindre",
        _CARD: "bancaire carte paiement",
        _BANK: "banque compte",
        _RECORD: "adherent assure client dossier matricule patient",
        _ADDRESS: "adresse domicile habite livraison",
        _DATE: "naissance date",
    },
    "es": {
        _PHONE: "celular fijo fono llamar llame movil numero telefono",
        _CARD: "credito pago tarjeta",
        _BANK: "banco cuenta",
        _RECORD: "cliente empleado expediente paciente poliza",
        _ADDRESS: "direccion domicilio vive",
        _DATE: "fecha nacimiento nacido",
    },
    "it": {
        _PHONE: "cell cellulare chiamare fisso telefono",
        _CARD: "carta credito pagamento",
        _BANK: "banca conto",
        _RECORD: "cliente fascicolo matricola paziente polizza",
        _ADDRESS: "abita indirizzo residente",
        _DATE: "data nascita nato",
    },
    "nl": {
        _PHONE: "bellen mobiel nummer telefoon telefoonnummer",
        _CARD: "betaling creditcard kaart kaartnummer",
        _BANK: "bank rekening rekeningnummer",
        _RECORD: "dossier klant klantnummer patient personeelsnummer polis",
        _ADDRESS: "adres woont",
        _DATE: "datum geboren geboortedatum",
    },
    "pt": {
        _PHONE: "celular fixo fone ligar telefone telemovel",
        _CARD: "cartao credito pagamento",
        _BANK: "banco conta",
        _RECORD: "cliente funcionario paciente processo",
        _ADDRESS: "endereco morada reside",
        _DATE: "data nascimento nascido",
    },
}
_ALIKE: Final = {_BAD_CARD: _CARD}


def in_languages(
    recognizers: Iterable[Recognizer], languages: Iterable[str]
) -> Iterator[Recognizer]:
    """Give recognizers the context words of languages beside the English ones.

    Raises:
        PIIEngineError: A language is none of those known here.
    """
    tables = [_table(language) for language in languages]
    for recognizer in recognizers:
        category = _ALIKE.get(recognizer.category, recognizer.category)
        more = [words(table[category]) for table in tables if category in table]
        yield replace(recognizer, context=recognizer.context.union(*more)) if more else recognizer


def _table(language: str) -> dict[Category, str]:
    table = _WORDS.get(language)
    if table is None:
        raise PIIEngineError(f"a language that is one of {', '.join(_WORDS)} expected")
    return table
