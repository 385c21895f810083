from __future__ import annotations

from collections.abc import Iterable

import pytest

from latensgate_enclave.pii import Budget, Direction, TextPart, parse_policy
from latensgate_enclave.pii.cache import CachedScanner, FindingsCache
from latensgate_enclave.pii.errors import PIICacheError, PIIEngineError
from latensgate_enclave.pii.findings import ALL_CATEGORIES, Category, Finding
from latensgate_enclave.pii.protection import Protection
from latensgate_enclave.pii.scanner import Scanner
from latensgate_shared.errors import ErrorCode

KEY = bytes(32)
SECRET = b"s" * 32
TEXT = "x" * 70 + " ann@example.com \ud800"
FOUND = (Finding(Category.EMAIL_ADDRESS, 71, 86, 0.9, "own.email"),)


class Engine:
    """Counts what it is asked."""

    def __init__(self, digest: str = "sha384:00", *, waits: bool = False) -> None:
        self.digest = digest
        self.asked: list[tuple[str, frozenset[Category], str]] = []
        self.fails = False
        self._waits = waits

    def waits(self, categories: frozenset[Category]) -> bool:
        return self._waits and bool(categories)

    def scan(
        self, text: str, *, categories: frozenset[Category] = ALL_CATEGORIES, hint: str = ""
    ) -> tuple[Finding, ...]:
        if self.fails:
            raise PIIEngineError("no")
        self.asked.append((text, categories, hint))
        return FOUND if "@" in text else ()


def entries(cache: FindingsCache) -> dict[bytes, bytes]:
    return cache._entries  # pyright: ignore[reportPrivateUsage] # what an attacker would change


def scanner(
    cache: FindingsCache, engine: Engine, tenant: str = "t", secret: bytes = SECRET
) -> Scanner:
    return cache.scanner(engine, tenant, secret)


def test_a_message_is_scanned_once_in_a_conversation() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    assert scanner(cache, engine).scan(TEXT) == FOUND
    assert scanner(cache, engine).scan(TEXT) == FOUND
    assert scanner(cache, engine).scan("y" * 80) == ()
    assert scanner(cache, engine).scan("y" * 80) == ()
    assert len(engine.asked) == 2


def test_what_another_asks_for_is_another_entry() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    first = scanner(cache, engine)
    first.scan(TEXT)
    first.scan(TEXT, categories=frozenset({Category.URL}))
    first.scan(TEXT, hint="ssn")
    first.scan(f"{TEXT}x")
    scanner(cache, engine, tenant="u").scan(TEXT)
    scanner(cache, engine, secret=b"t" * 32).scan(TEXT)
    scanner(cache, engine, tenant=f"t{SECRET.decode()}", secret=b"").scan(TEXT)
    assert len(engine.asked) == 7
    newer = Engine("sha384:01")
    scanner(cache, newer).scan(TEXT)
    assert len(newer.asked) == 1


def test_without_a_conversation_nothing_is_kept() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    assert cache.scanner(engine, "t", None) is engine


def test_short_texts_are_not_kept() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    scanner(cache, engine).scan("a@b.cc")
    assert not entries(cache)


def test_no_text_is_kept() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    scanner(cache, engine).scan(TEXT)
    kept = b"".join(bytes(part) for pair in entries(cache).items() for part in pair)
    assert b"ann" not in kept
    assert b"example" not in kept


def test_a_failed_scan_is_not_kept() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    engine.fails = True
    with pytest.raises(PIIEngineError):
        scanner(cache, engine).scan(TEXT)
    engine.fails = False
    assert scanner(cache, engine).scan(TEXT) == FOUND


def _poisons(entry: bytes) -> Iterable[bytes]:
    yield b""
    yield entry[-32:]  # the findings taken away
    yield bytes([entry[0] ^ 1]) + entry[1:]
    yield entry[:-1] + bytes([entry[-1] ^ 1])
    yield entry[:20] + entry


@pytest.mark.parametrize("number", range(5))
def test_a_poisoned_entry_denies_and_the_next_scan_is_a_new_one(number: int) -> None:
    cache, engine = FindingsCache(KEY), Engine()
    scanner(cache, engine).scan(TEXT)
    ((place, entry),) = entries(cache).items()
    entries(cache)[place] = list(_poisons(entry))[number]
    with pytest.raises(PIICacheError) as caught:
        scanner(cache, engine).scan(TEXT)
    assert caught.value.code is ErrorCode.ERR_PII_CACHE
    assert scanner(cache, engine).scan(TEXT) == FOUND
    assert len(engine.asked) == 2


def test_an_entry_of_another_place_is_poison() -> None:
    cache, engine = FindingsCache(KEY), Engine()
    scanner(cache, engine).scan(TEXT)
    scanner(cache, engine).scan("y" * 80)
    one, two = entries(cache)
    entries(cache)[one] = entries(cache)[two]
    with pytest.raises(PIICacheError):
        scanner(cache, engine).scan(TEXT)


def test_it_is_bounded_and_the_oldest_goes_first() -> None:
    cache, engine = FindingsCache(KEY, max_bytes=1_000), Engine()
    texts = [str(number) * 80 for number in range(9)]
    for text in texts:
        scanner(cache, engine).scan(texts[0])
        scanner(cache, engine).scan(text)
    assert len(entries(cache)) == 3
    before = len(engine.asked)
    scanner(cache, engine).scan(texts[0])
    scanner(cache, engine).scan(texts[8])
    assert len(engine.asked) == before
    scanner(cache, engine).scan(texts[1])
    assert len(engine.asked) == before + 1


def test_what_does_not_fit_is_not_kept() -> None:
    cache, engine = FindingsCache(KEY, max_bytes=100), Engine()
    assert scanner(cache, engine).scan(TEXT) == FOUND
    assert not entries(cache)


def test_it_waits_where_its_engine_waits() -> None:
    waits = CachedScanner(FindingsCache(KEY), Engine(waits=True), KEY)
    assert waits.waits(ALL_CATEGORIES)
    assert not waits.waits(frozenset())


def test_what_is_stored_twice_counts_once() -> None:
    cache = FindingsCache(KEY, max_bytes=700)
    for _ in range(5):
        cache.store(b"p", KEY, FOUND)
    cache.store(b"q", KEY, ())
    cache.forget(b"r")
    assert cache.load(b"p", KEY) == FOUND
    assert cache.load(b"q", KEY) == ()


def test_texts_of_the_request_are_remembered_and_those_of_the_answer_are_not() -> None:
    cache, engine = FindingsCache(), Engine()
    policy = parse_policy({"rules": {"EMAIL_ADDRESS": {"*": {"action": "mask"}}}})
    remembering = scanner(cache, engine)
    for turn in (1, 2):
        protection = Protection.under(policy, engine, "t", SECRET, remembering)
        prompt = [TextPart(TEXT, Direction.PROMPT)]
        scanned = protection.scan_request(prompt, budget=Budget())
        assert "ann@example.com" not in scanned.texts[0]
        assert len(engine.asked) == turn
        protection.scan_answer([TextPart(TEXT, Direction.ANSWER)], budget=Budget())
        assert len(engine.asked) == turn + 1
