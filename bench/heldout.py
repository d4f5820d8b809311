"""Labelled lines that nobody wrote for the recognisers: drawn by Faker in many languages, and from others' documents.

python -m bench.heldout SEED > bench/heldout.txt

Needs `pip install faker` (MIT), which nothing else does; the lines are kept, so that only who draws new ones does.
⟦kind:text⟧ is what must be hidden, as in tests/core/redaction_corpus.txt. What is drawn: contact lines, forms, JSON,
tables and logs with what each locale's provider gives as addresses, phones, cards, accounts, national ids, hosts and
passwords; and as many lines with nothing to hide: numbers that look like something, sentences and addresses in each
language, and lines from the documents of installed packages. Ids are only of countries that are recognised, without
the British ones, of which the provider draws what is no number on purpose.
"""

import base64
import importlib.metadata
import json
import random
import string
import sys
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

LINES: Final = 400  # of each sort
# The word for a phone in a form, by locale.
PHONES: Final = {
    "en_US": "Phone", "en_GB": "Tel", "en_CA": "phone", "en_AU": "Mobile", "en_IN": "Mobile no", "en_IE": "Telephone",
    "de_DE": "Telefon", "de_AT": "Tel.", "de_CH": "Telefonnummer", "fr_FR": "Téléphone", "fr_BE": "Tél.",
    "fr_CA": "Tél", "it_IT": "Telefono", "es_ES": "Teléfono", "es_MX": "Tel", "es_AR": "Teléfono",
    "pt_BR": "Telefone", "pt_PT": "Telefone", "nl_NL": "Telefoonnummer", "nl_BE": "Telefoon", "pl_PL": "Telefon",
    "sv_SE": "Telefon", "da_DK": "Telefon", "no_NO": "Mobil", "fi_FI": "Puhelin", "cs_CZ": "Telefon",
    "ro_RO": "Telefon", "tr_TR": "Telefon", "el_GR": "Τηλέφωνο", "ru_RU": "Телефон", "uk_UA": "Телефон",
    "ja_JP": "電話", "zh_CN": "电话", "zh_TW": "電話", "ko_KR": "전화", "hu_HU": "Telefon",
}  # fmt: skip
IDS: Final = {
    "en_US": "SSN", "es_ES": "DNI", "it_IT": "Codice fiscale", "fi_FI": "Henkilötunnus",
    "fr_FR": "Numéro de sécurité sociale", "pl_PL": "PESEL", "nl_NL": "BSN", "sv_SE": "Personnummer",
}  # fmt: skip
IBANS: Final = ("de_DE", "fr_FR", "en_GB", "it_IT", "nl_NL", "pl_PL", "de_AT", "de_CH", "fi_FI", "tr_TR", "es_ES")
BASE62: Final = string.ascii_letters + string.digits

Draw = Callable[[Any, random.Random, str], tuple[str, str]]  # a faker, chance, its locale → the word and what it is


def marked(kind: str, text: str) -> str:
    """Return `text`, labelled."""
    return f"⟦{kind}:{text}⟧"


def email(fake: Any, chance: random.Random, _: str) -> tuple[str, str]:
    draw = chance.choice([fake.email, fake.free_email, fake.company_email, fake.ascii_email])
    return chance.choice(["E-mail", "email", "mail", "contact"]), marked("email", draw())


def phone(fake: Any, _: random.Random, locale: str) -> tuple[str, str]:
    return PHONES[locale], marked("phone", fake.phone_number())


def card(fake: Any, chance: random.Random, _: str) -> tuple[str, str]:
    number = fake.credit_card_number()
    if chance.random() < 0.5 and len(number) == 16:
        number = chance.choice([" ", "-"]).join(number[at : at + 4] for at in range(0, 16, 4))
    return chance.choice(["card", "Card number", "PAN"]), marked("card", number)


def iban(fake: Any, chance: random.Random, _: str) -> tuple[str, str]:
    number = fake.iban()
    if chance.random() < 0.5:
        number = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    return chance.choice(["IBAN", "account", "Konto"]), marked("iban", number)


def national_id(fake: Any, _: random.Random, locale: str) -> tuple[str, str]:
    number = {"es_ES": "nif", "sv_SE": "ssn", "pl_PL": "pesel"}.get(locale, "ssn")
    return IDS[locale], marked("id", getattr(fake, number)())


def host(fake: Any, chance: random.Random, _: str) -> tuple[str, str]:
    draw = chance.choice([fake.ipv4_public, fake.ipv4_private, fake.ipv6])
    return chance.choice(["client", "ip", "from"]), marked("ip", draw())


def secret(fake: Any, chance: random.Random, _: str) -> tuple[str, str]:
    drawn = "".join(chance.choices(BASE62, k=chance.randint(32, 48)))
    return chance.choice(
        [
            ("password", marked("secret", fake.password(special_chars=False))),
            ("api_key", marked("secret", drawn)),
            ("token", marked("secret", base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("="))),
            ("key", marked("secret", "sk-" + drawn)),
            ("note", marked("secret", "ghp_" + "".join(chance.choices(BASE62, k=36)))),
        ]
    )


def positives(fakes: dict[str, Any], chance: random.Random) -> Iterator[str]:
    """Yield lines with something to hide, each kind in turn, in a form that such lines have."""
    draws: list[tuple[Draw, tuple[str, ...]]] = [
        (email, tuple(PHONES)), (phone, tuple(PHONES)), (card, tuple(PHONES)), (phone, tuple(PHONES)),
        (iban, IBANS), (national_id, tuple(IDS)), (host, tuple(PHONES)), (secret, tuple(PHONES)),
    ]  # fmt: skip
    for at in count():
        draw, locales = draws[at % len(draws)]
        locale = chance.choice(locales)
        fake = fakes[locale]
        word, hidden = draw(fake, chance, locale)
        yield chance.choice(
            [
                f"{word}: {hidden}",
                f'{{"name": {json.dumps(fake.name(), ensure_ascii=False)}, "{word.lower()}": "{hidden}"}}',
                f"{fake.sentence()} {word}: {hidden}. {fake.sentence()}",
                f"{fake.name()}, {word} {hidden}, {fake.city()}",
                f"{fake.date()} {word.lower()}={hidden} {fake.word()}",
            ]
        )


def negatives(fakes: dict[str, Any], chance: random.Random, documents: list[str]) -> Iterator[str]:
    """Yield lines with nothing to hide: of three, one that only looks like it, one of words, one of a document."""
    locales = tuple(PHONES)
    for _ in count():
        fake = fakes[chance.choice(locales)]
        yield str(chance.choice(lookalikes(fake, chance))())
        yield chance.choice([fake.sentence(), fake.address(), fake.company(), fake.text(120)]).replace("\n", ", ")
        yield chance.choice(documents)


def lookalikes(fake: Any, chance: random.Random) -> list[Callable[[], object]]:
    """Return what draws a line that only looks like something."""
    capitals = string.ascii_uppercase
    return [
        lambda: f"EAN {fake.ean13()}",
        lambda: f"ISBN {fake.isbn13()}",
        lambda: f"ISBN {fake.isbn10()}",
        lambda: f"id {fake.uuid4()} at {fake.iso8601()}",
        lambda: f"{fake.md5()}  {fake.file_name()}",
        lambda: f"sha1 {fake.sha1()}",
        lambda: f"{fake.mac_address()} up {fake.time()}",
        lambda: f"invoice {fake.numerify('INV-########')} of {fake.date()}, {fake.pricetag()}",
        lambda: fake.numerify("order ########## shipped, parcel ############"),
        lambda: fake.bothify("serial ??##-####-#### / ########", letters=capitals),
        lambda: f"{fake.latitude()}, {fake.longitude()}",
        lambda: f"unix {fake.unix_time()} = {fake.date_time()}",
        fake.user_agent,
        lambda: f"{fake.file_path(depth=3)} {fake.numerify('#######')} bytes",
        lambda: f"{fake.uri()}?page={fake.numerify('###')}",
        lambda: json.dumps({"id": int(fake.numerify("%#########")), "price": float(fake.numerify("%##.##"))}),
        lambda: f"BIC {fake.swift()}, {fake.bothify('VAT ??#########', letters='ABCDE')}",
        lambda: ", ".join(str(chance.gauss(0, 1)) for _ in range(4)),
        lambda: fake.numerify("version %.##.# build 20######"),
    ]


def documents() -> list[str]:
    """Return lines of the descriptions of installed packages; those with an @ may be somebody's, and are left out."""
    found: set[str] = set()
    for package in importlib.metadata.distributions():
        text = package.metadata.get_payload()
        if isinstance(text, str):
            lines = (line.strip() for line in text.splitlines())
            found.update(
                line for line in lines if 20 < len(line) < 300 and "@" not in line and any(map(str.isdigit, line))
            )
    return sorted(found)


def main() -> None:
    """Print the lines."""
    from faker import Faker  # noqa: PLC0415 - only who draws new lines has it

    seed = int(sys.argv[1])
    chance = random.Random(seed)
    fakes = {}
    for locale in PHONES:
        fakes[locale] = Faker(locale)
        fakes[locale].seed_instance(f"{seed} {locale}")
    print(f"# Drawn by bench/heldout.py with the seed {seed}.")
    with_something, without = positives(fakes, chance), negatives(fakes, chance, documents())
    for _ in range(LINES):
        print(next(with_something).replace("\n", " "))
        print(next(without))


if __name__ == "__main__":
    main()
