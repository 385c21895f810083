"""Passwords and keys as people and programs hand them on."""

from __future__ import annotations

import pytest

from latensgate_enclave.pii import Category, Tier1Engine
from pii_found import found

HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
LETTERS = "abCDef12GHij34KLmn56OPqr78STuv90WXyz"


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("Passwort: Nebel#17", "Nebel#17"),
        ("mein Passwort ist Nebel17x", "Nebel17x"),
        ("Kennwort = Nebel#17", "Nebel#17"),
        ("Mot de passe : brume-17", "brume-17"),
        ("contraseña: niebla17", "niebla17"),
        ("la contraseña es Niebla17!", "Niebla17!"),
        ("senha: nevoa17", "nevoa17"),
        ("wachtwoord: Mist17", "Mist17"),
        ("hasło: mgla17", "mgla17"),
        ("lösenord: dimma17", "dimma17"),
        ("şifre: sis17abc", "sis17abc"),
        ("the wifi pass is OldHarbour7", "OldHarbour7"),
        ("new password - q7#Lm2$v.", "q7#Lm2$v"),
        ("user ann password q7#Lm2$v", "q7#Lm2$v"),
        ("the password for the shop is OldHarbour7", "OldHarbour7"),
        ("password was changed to q7#Lm2$v.", "q7#Lm2$v"),
        ("my pass is OldHarbour7", "OldHarbour7"),
        ("PGPASSWORD=harbour psql", "harbour"),
        ("ENV APP_PASS=harbour", "harbour"),
        ("sshpass -p 'harbour7' ssh h", "harbour7"),
        ("pw: Harbour-7", "Harbour-7"),
        ("pass = Harbour-7", "Harbour-7"),
        ("the password Ann gave me was OldHarbour7", "OldHarbour7"),
        ("the password at the front desk is OldHarbour7", "OldHarbour7"),
        ("Password for the portal: OldHarbour7", "OldHarbour7"),
        ("pw they use now is OldHarbour7", "OldHarbour7"),
        ("la contraseña del correo es Niebla17", "Niebla17"),
        ("das Passwort für die Cloud lautet Nebel17x.", "Nebel17x"),
        ("Hasło do poczty: Mgla2031", "Mgla2031"),
        ("my pasword is harbour7", "harbour7"),
        ("passwrd: harbour7", "harbour7"),
        ("my old password was harbour7", "harbour7"),
        ("forgot my password, so I reset it to harbour7", "harbour7"),
        ("log in with OldHarbour7 as the password", "OldHarbour7"),
        ("'OldHarbour7' is the new wifi password", "OldHarbour7"),
        ("the password is harbour7, keep it", "harbour7"),
        ("login ann:q7#Lm2$v", "q7#Lm2$v"),
        ("creds ann/q7#Lm2$v now", "q7#Lm2$v"),
        ("<password>old harbour</password>", "old harbour"),
        ("curl -u ann:harbour7 https://x.example", "harbour7"),
        ("tool --db-password harbour --dry", "harbour"),
        ("mysql -h db -u ann -pharbour7 shop", "harbour7"),
        ("redis://:harbour7@cache:6379", "harbour7"),
        (r'"{\"password\":\"harbour7\"}"', "harbour7\\"),
    ],
)
def test_passwords(engine: Tier1Engine, text: str, password: str) -> None:
    assert found(engine, text, Category.PASSWORD) == [password]


@pytest.mark.parametrize(
    "key",
    [
        f"whsec_{LETTERS}",
        f"GOCSPX-{LETTERS}",
        f"EAAC{LETTERS}",
        f"dop_v1_{HEX}{HEX}",
        f"shpat_{HEX}",
        f"sq0atp-{LETTERS}",
        f"key-{HEX}",
        f"{HEX}-us21",
        f"dapi{HEX}",
        f"glsa_{LETTERS}",
        f"hvs.{LETTERS}",
        f"NRAK-{LETTERS.upper()}",
        f"ATATT3{LETTERS}",
        f"lin_api_{LETTERS}",
        f"dckr_pat_{LETTERS}",
        f"PMAK-{HEX[:24]}-{HEX}a1",
        f"pscale_tkn_{LETTERS}",
        f"gsk_{LETTERS}{LETTERS}",
        f"xai-{LETTERS}{LETTERS}",
        f"r8_{LETTERS}",
        f"M{LETTERS[:24]}.a1B2c3.{LETTERS[:30]}",
        f"1234567890:AA{LETTERS[:33]}",
        f"AGE-SECRET-KEY-1{LETTERS.upper()}{LETTERS.upper()}",
        f"T0123ABCD/B0123ABCD/{LETTERS[:24]}",
        f"api/webhooks/123456789012345678/{LETTERS}{LETTERS}",
    ],
)
def test_keys_of_known_form(engine: Tier1Engine, key: str) -> None:
    for text in (f"it is {key} now", f'x="{key}"', f"https://h.example/{key}"):
        assert found(engine, text, Category.API_KEY) == [key]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"our api key is {LETTERS}, rotate it", LETTERS),
        (f"api token {HEX}", HEX),
        (f"AccountKey={LETTERS}==;Endpoint", f"{LETTERS}=="),
        (f"SharedAccessKey={LETTERS}=", f"{LETTERS}="),
        (f"Cookie: sessionid={HEX}", HEX),
        (f"private key: 0x{HEX}{HEX}", f"0x{HEX}{HEX}"),
        (f"stripeApiKey: '{LETTERS}'", LETTERS),
        ("SECRET_KEY = 'k#9d!x0q3v7m5n1b4$'", "k#9d!x0q3v7m5n1b4$"),
        (rf'"{{\"token\":\"{LETTERS}\"}}"', LETTERS),
    ],
)
def test_keys_behind_a_word(engine: Tier1Engine, text: str, key: str) -> None:
    assert found(engine, text, Category.API_KEY) == [key]


@pytest.mark.parametrize(
    "text",
    ["the token is invalid", "a secret ingredient of everything", "api key is not configured"],
)
def test_words_behind_such_a_word_are_no_keys(engine: Tier1Engine, text: str) -> None:
    assert found(engine, text, Category.API_KEY) == []


@pytest.mark.parametrize("between", [",", " / ", "\n", '","'])
def test_the_secret_behind_the_id_of_its_key(engine: Tier1Engine, between: str) -> None:
    key_id, secret = "AKIA0000EXAMPLE00000", f"k/{LETTERS}+7"
    assert found(engine, f"{key_id}{between}{secret}", Category.API_KEY) == [key_id, secret]
