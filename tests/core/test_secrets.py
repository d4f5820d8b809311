"""Who may name which secret, when one is read again, and what no manifest may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import secrets
from stoker.core.secrets import (
    BACKOFF_MAX_S,
    SCRUBBED,
    Reading,
    Rules,
    is_scrubbed,
    literals,
    named,
    parse,
    restored,
    scrubbed,
)
from stoker.types.errors import InvalidInput
from stoker.types.secrets import SecretState, SecretUse

RULES = Rules("/home/secrets", "secret/stoker/{project}")
PROJECTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
NAMES = st.from_regex(r"[A-Z0-9]+(_[A-Z0-9]+){0,2}", fullmatch=True)


@pytest.mark.parametrize(
    ("reference", "is_allowed"),
    [
        ("env:STOKER_SECRET_TEAM_A__KEY", True),
        ("env:STOKER_SECRET_TEAM__A", False),
        ("env:STOKER_SECRET_TEAM_A", False),
        ("env:STOKER_VAULT_TOKEN", False),
        ("env:AWS_SECRET_ACCESS_KEY", False),
        ("file:/home/secrets/team-a/openai", True),
        ("file:/home/secrets/team-a/more/openai#key", True),
        ("file:/home/secrets/team-b/openai", False),
        ("file:/home/secrets/team-a/../team-b/openai", False),
        ("file:/home/secrets/team-ab", False),
        ("file:/home/secrets/team-a", False),
        ("file:/etc/shadow", False),
        ("vault:secret/stoker/team-a/openai#key", True),
        ("vault:secret/stoker/team-b/openai#key", False),
        ("vault:secret/stoker/team-a/../team-b/openai#key", False),
        ("vault:secret/stoker#key", False),
        ("sk-abcdefghijklmnop", False),
        ("env:STOKER_SECRET_TEAM_A__KEY\n", False),
    ],
)
def test_a_project_names_what_is_its_own(reference: str, is_allowed: bool) -> None:
    assert (RULES.refusal(reference, "team-a") == "") is is_allowed


def test_the_platform_lists_more() -> None:
    listed = ("file:/etc/stoker/upstream.key", "vault:kv/shared/*", "env:STOKER_SECRET_SHARED")
    for good in ("file:/etc/stoker/upstream.key#x", "vault:kv/shared/a/b#c", "env:STOKER_SECRET_SHARED"):
        assert RULES.refusal(good, "team-a", listed) == ""
    for bad in ("file:/etc/stoker/upstream.key2", "vault:kv/sharedother#c", "env:STOKER_SECRET_SHARED2", "env:HOME"):
        assert RULES.refusal(bad, "team-a", listed)
    assert RULES.refusal("vault:secret/stoker/a/x#k", "a", ()) == ""
    assert Rules("/home/secrets", "").refusal("vault:secret/stoker/a/x#k", "a")


@given(PROJECTS, PROJECTS, NAMES)
def test_no_project_names_what_is_anothers(mine: str, theirs: str, name: str) -> None:
    of_theirs = secrets.own_area(theirs, RULES.folder, RULES.vault)
    for pattern in of_theirs:
        reference = pattern[:-1] + (name if pattern.startswith("env") else f"{name}#key")
        assert RULES.refusal(reference, theirs) == ""
        assert (RULES.refusal(reference, mine) == "") is (mine == theirs)


@given(st.text(max_size=60))
def test_a_text_that_is_no_reference_is_refused_and_never_repeated(text: str) -> None:
    found, message = None, ""
    try:
        found = parse(text)
    except InvalidInput as wrong:
        message = wrong.message
    if found is not None:
        assert f"{found.place}{'#' if found.field else ''}{found.field}" == text
    elif not secrets.is_reference(text) and len(text) > 8:
        assert text not in message


def test_the_references_of_an_endpoint_by_their_place() -> None:
    assert named({"api_key": "vault:a/b#c"}, {"A": "x", "B": "env:STOKER_SECRET_X"}) == {
        "env.B": "env:STOKER_SECRET_X",
        "options.api_key": "vault:a/b#c",
    }
    assert named({"api_key_file": "/etc/key"}, {}) == {"options.api_key": "file:/etc/key"}
    assert named({"api_key_env": "B"}, {"B": "vault:a/b#c"})["options.api_key"] == "vault:a/b#c"
    assert named({"api_key_env": "B"}, {"B": "plain"}) == {}


@pytest.mark.parametrize(
    ("options", "env", "field"),
    [
        ({"api_key": "sk-abcdefghijklmnopqrstuvwx"}, {}, "spec.options.api_key"),
        ({"api_key": "hunter2"}, {}, "spec.options.api_key"),
        ({"api_key_file": "/etc/key"}, {}, "spec.options.api_key_file"),
        ({"url": "https://user:pass@host/v1"}, {}, "spec.options.url"),
        ({"command": ["serve", "--key", "sk-abcdefghijklmnopqrstuvwx"]}, {}, "spec.options.command[2]"),
        ({}, {"OPENAI_API_KEY": "abc"}, "spec.env.OPENAI_API_KEY"),
        ({}, {"DB_PASSWORD": "abc"}, "spec.env.DB_PASSWORD"),
        ({}, {"PLAIN": "ghp_" + "a" * 36}, "spec.env.PLAIN"),
        ({}, {"KEY": "file:relative"}, "spec.env.KEY"),
    ],
)
def test_a_literal_secret_is_refused_with_what_to_write(
    options: dict[str, object], env: dict[str, str], field: str
) -> None:
    ((found, message),) = literals(options, env)
    assert found == field
    assert "file:" in message or "without" in message
    for value in (*env.values(), options.get("api_key")):
        assert value is None or str(value).startswith("file:") or str(value) not in message


def test_what_only_sounds_like_one_may_stand_there() -> None:
    env = {"MAX_TOKENS": "4096", "TOKENIZERS_PARALLELISM": "false", "KEY": "7", "SSL_KEY": "/etc/x.pem", "MONKEY": "x"}
    assert list(literals({"url": "https://api.example.com/v1", "model": "a/b", "slots": 4}, env)) == []
    assert list(literals({"api_key": "vault:a/b#c"}, {"TOKEN": "env:STOKER_SECRET_X"})) == []


def test_what_is_kept_of_an_old_revision_has_no_secret_and_everything_else() -> None:
    options = {
        "api_key": "hunter2",
        "url": "https://api.example.com/v1",
        "slots": 4,
        "more": {"a": ["x", "sk-" + "a" * 20]},
    }
    env = {"DB_PASSWORD": "abc", "KEY": "7", "TOKEN": "vault:a/b#c"}
    kept = scrubbed(options, env)
    assert kept == (
        {"api_key": SCRUBBED, "url": "https://api.example.com/v1", "slots": 4, "more": {"a": ["x", SCRUBBED]}},
        {"DB_PASSWORD": SCRUBBED, "KEY": "7", "TOKEN": "vault:a/b#c"},
    )
    assert is_scrubbed(*kept)
    assert not is_scrubbed(options, env)


def test_who_goes_back_to_one_takes_the_secret_of_now_or_none() -> None:
    then = {"a": SCRUBBED, "b": SCRUBBED, "c": "x", "d": {"e": SCRUBBED, "f": 1}, "g": ["x", SCRUBBED]}
    now = {"a": "env:STOKER_SECRET_A", "c": "y", "d": {"e": "vault:a/b#c", "z": 1}, "g": ["y"]}
    assert restored(then, now) == {
        "a": "env:STOKER_SECRET_A", "c": "x", "d": {"e": "vault:a/b#c", "f": 1}, "g": ["y"],
    }  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=30)), st.dictionaries(st.text(max_size=5), st.text()))
def test_nothing_is_found_twice_and_what_was_clean_stays_as_it_is(options: dict[str, str], env: dict[str, str]) -> None:
    kept = scrubbed(options, env)
    assert scrubbed(*kept) == kept
    assert (kept == (options, env)) is not (is_scrubbed(*kept) and not is_scrubbed(options, env))


TIMES = st.lists(st.tuples(st.booleans(), st.floats(0.1, 100)), max_size=40)


@given(TIMES, st.floats(1, 60), st.floats(0, 600))
def test_a_value_is_used_no_longer_than_it_may_and_tried_again_in_a_bounded_time(
    tries: list[tuple[bool, float]], ttl_s: float, stale_s: float
) -> None:
    reading, now_s, good_s = Reading(), 0.0, None
    for is_good, after_s in tries:
        now_s += after_s
        reading = reading.good(now_s) if is_good else reading.failed(now_s, after_s * 10)
        good_s = now_s if is_good else good_s
        assert now_s < reading.due_s(ttl_s) <= now_s + max(ttl_s, BACKOFF_MAX_S)
        assert reading.is_usable(now_s, ttl_s, stale_s) is (good_s is not None and now_s - good_s <= ttl_s + stale_s)
        assert not reading.may_reread(now_s)
        assert reading.may_reread(now_s + secrets.REREAD_S + 0.001)


def test_health_is_that_of_the_worst_process() -> None:
    use = SecretUse("team", "Endpoint", "chat", "spec.options.api_key", "vault:a/b#c")
    good = SecretState("vault:a/b#c", "gateway-0", 1, 1.0, 1.0, 1.0, is_usable=True)
    stale = SecretState("vault:a/b#c", "gateway-1", 1, 1.0, 1.0, 1.0, problem="sealed", is_usable=True)
    gone = SecretState("vault:a/b#c", "gateway-2", 0, 0.0, 0.0, 1.0, problem="sealed")
    assert secrets.health(use, [])[0] == "unread"
    assert secrets.health(use, [good])[0] == "good"
    assert secrets.health(use, [good, stale])[0] == "stale"
    assert secrets.health(use, [good, gone, stale])[0] == "missing"
    refused = SecretUse("team", "Endpoint", "chat", "f", "env:HOME", "may not")
    assert secrets.health(refused, [good]) == ("refused", "may not")
