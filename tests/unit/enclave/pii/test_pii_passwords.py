"""Passwords behind logins, options and declarations; and what only looks like one."""

from __future__ import annotations

import pytest

from latensgate_enclave.pii import Category, Tier1Engine
from pii_found import found

HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture(scope="module")
def engine() -> Tier1Engine:
    return Tier1Engine()


@pytest.mark.parametrize(
    "template",
    [
        "Das Passwort für den alten Drucker lautet {}",
        "Passwort fürs Gerätehaus: {}",
        "Le mot de passe de la cave est {}.",
        "La contraseña de la oficina es {}",
        "La password della rete è {}",
        "A senha do cofre é {}",
        "Lösenordet till båten är {}",
        "Adgangskoden er {}",
        "Passordet er {}",
        "Hasło do piwnicy: {}",
        "Heslo je {}",
        "Ofis şifresi: {}",
        "the password for the boat shed: {}",
        "password has been reset to {}",
        "the initial password is: {}",
        "new pw is {}, please change",
        "your pass is {}",
        "mi clave es {}",
        "la clave del taller es {}",
        "le mot de passe pour la cave : {}",
        "Parola seifului este {}",
        "Kodeord: {}",
        "hasło do piwnicy to {}",
        "the password should be {}",
        "set the password as {}",
        "password ({}) is new",
        'login(BasicAuth("ann", "{}"))',
        "jelszó: {}",
        "login captain / {}",
        "creds for harbour: captain / {}",
    ],
)
def test_told_in_a_sentence(engine: Tier1Engine, template: str) -> None:
    assert found(engine, template.format("Ebbe+Flut7"), Category.PASSWORD) == ["Ebbe+Flut7"]


@pytest.mark.parametrize(
    "template",
    [
        "define('BOAT_PASSWORD', '{}');",
        "$boat['password'] = '{}';",
        'os.environ["BOAT_PASS"] = "{}"',
        '<property name="boat.password" value="{}"/>',
        '<add key="BoatPassword" value="{}" />',
        '- name: BOAT_PASSWORD\n  value: "{}"',
        '{{"name":"BOAT_PASSWORD","value":"{}"}}',
        'const BOAT_PASSWORD: &str = "{}";',
        "const password: string = '{}';",
        'password: str | None = "{}"',
        'var boatPassword string = "{}"',
        "SET PASSWORD FOR 'ann'@'h' = PASSWORD('{}');",
        "ftp_pass: {}",
        "ENV BOAT_PASSWORD {}",
        'setx BOAT_PASSWORD "{}"',
        'ConvertTo-SecureString "{}" -AsPlainText',
        "<password><![CDATA[{}]]></password>",
        "boat=1&password={}&pier=2",
        "user: ann / pass: {}",
        "login: ann\npass: {}",
        'sql.Open("mysql", "ann:{}@tcp(db:3306)/boats")',
        "echo ann:{} | chpasswd",
        "mysqldump --user=ann --password={} boats",
        "htpasswd -b file ann {}",
        "redis-cli -h cache -a {} ping",
        "ldapsearch -x -D cn=ann -w {} -b dc=x",
        "mongosh -u ann -p {} boats",
        "docker login -u ann -p {} hub.example",
        "zip -P {} boats.zip *.csv",
        "sqlcmd -S db -U ann -P {}",
        "openssl rsa -in k -passin pass:{} -out o",
        "keytool -list -storepass {}",
        "smbclient //h/s -U ann%{}",
        r"net use Z: \\h\s /user:X\ann {}",
        "sqlplus ann/{}@//db:1521/XE",
    ],
)
def test_of_programs_and_commands(engine: Tier1Engine, template: str) -> None:
    assert found(engine, template.format("Ebbe7flut"), Category.PASSWORD) == ["Ebbe7flut"]


def test_a_pass_phrase_is_several_words(engine: Tier1Engine) -> None:
    text = 'the passphrase for the old boat is "tide seven lantern moss"'
    assert found(engine, text, Category.PASSWORD) == ["tide seven lantern moss"]
    assert found(engine, 'a passphrase is "required"', Category.PASSWORD) == []


@pytest.mark.parametrize(
    "text",
    [
        'password = getpass.getpass("Password: ")',
        "BOAT_PASSWORD=${BOAT_PASSWORD:?must be set}",
        "password = var.boat_password",
        "password = random_password.boat.result",
        'password = local.boats["password"]',
        "password = hash_password(raw)",
        'password = input("word? ")',
        "password: z.string().min(8),",
        "password: Optional[str] = None",
        "password: SecretStr",
        "password []byte, password: []byte",
        "Password = model.Password,",
        "pwd: /home/ann/boats7",
        "password: PropTypes.string.isRequired,",
        "passwd:x:1000:1000::/home/ann:/bin/sh",
        "password: {type: string, minLength: 8}",
        "password VARCHAR(255) NOT NULL",
        "password: $(BOAT_PASSWORD)",
        "set password=%BOAT_PASSWORD%",
        "set password=%DB_PASSWORD%",
        "password=$BOAT_WORD",
        "password: !vault |",
        'password: @Value("${boat.word}")',
        "self.password = password",
        "connect(user=user, password=password)",
        "Password: (leave blank to keep it)",
        "Passwort: siehe Handbuch",
        "fields = ('password', 'confirm_password')",
        "cannot login to harbour http://boats.example/Q5x",
    ],
)
def test_expressions_types_and_prose_are_none(engine: Tier1Engine, text: str) -> None:
    assert found(engine, text, Category.PASSWORD) == []


def test_a_constant_may_be_the_word_itself(engine: Tier1Engine) -> None:
    assert found(engine, "BOAT_PASSWORD=password", Category.PASSWORD) == ["password"]
    assert found(engine, 'password: "password"', Category.PASSWORD) == ["password"]


@pytest.mark.parametrize(
    "template",
    [
        'boats["api_key"] = "{}"',
        'const apiKey: string = "{}";',
        "- name: BOAT_API_TOKEN\n  value: {}",
        '<add key="ApiKey" value="{}"/>',
        "Ocp-Apim-Subscription-Key: {}",
        "https://h.example/boats?q=a&appid={}",
        "https://{}@o1.ingest.example/42",
        "Unser API-Schlüssel lautet {}",
    ],
)
def test_keys_of_programs_and_addresses(engine: Tier1Engine, template: str) -> None:
    assert found(engine, template.format(HEX), Category.API_KEY) == [HEX]


def test_the_signature_of_a_shared_link(engine: Tier1Engine) -> None:
    signature = f"{HEX}{HEX[:10]}%3D"
    text = f"https://h.example/f.csv?sv=2026-01-01&sig={signature}&se=1"
    assert found(engine, text, Category.API_KEY) == [signature]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my password: config.Winter2031!", "config.Winter2031!"),
        ("password=this.Is2Long!", "this.Is2Long!"),
        ("password: self.Esteem31!", "self.Esteem31!"),
        ("password: {{Otter31!!", "{{Otter31!!"),
        ("password: ${otter31", "${otter31"),
    ],
)
def test_what_only_begins_like_a_place_holder_is_a_password(
    engine: Tier1Engine, text: str, expected: str
) -> None:
    assert found(engine, text, Category.PASSWORD) == [expected]
