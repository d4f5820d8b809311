"""People who sign in, programs that send tokens, and everybody who pretends to be one of them."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests import oidc
from tests.api.identities import Browser, believe, health, manifest
from tests.control.rig import Rig, until
from tests.oidc import Provider

GRANTS = [
    {"claim": "groups", "value": "ml", "project": "vision", "role": "deployer"},
    {"claim": "groups", "value": "ops", "everywhere": True, "role": "viewer"},
    {"claim": "groups", "value": "root", "everywhere": True, "role": "owner"},
]


@pytest.fixture(scope="module")
def provider(rig: Rig) -> Iterator[Provider]:
    projects = [
        {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": name}} for name in ("vision", "search")
    ]
    assert rig.request("POST", "/api/v1/apply", projects)[0] == 200
    with oidc.serving() as made:
        believe(rig, made, grants=GRANTS, client_secret=f"file:{rig.home.root}/oidc-secret")
        (rig.home.root / "oidc-secret").write_text("s3cret\n")
        made.secret = "s3cret"
        yield made


@pytest.fixture(autouse=True)
def alice(provider: Provider) -> None:
    provider.claims = {"sub": "alice", "email": "alice@example.org", "email_verified": True, "groups": ["ml"]}


def error(answer: tuple[int, Any, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


def asks(rig: Rig, token: str, path: str = "/auth/session", **more: Any) -> tuple[int, Any, Any]:
    return rig.request("GET", path, key=token, **more)


# ---- tokens of programs


def test_a_token_opens_what_its_claims_are_mapped_to_and_nothing_else(rig: Rig, provider: Provider) -> None:
    token = provider.token()
    status, me, _ = asks(rig, token)
    assert (status, me["subject"], me["email"]) == (200, "user:corp:alice", "alice@example.org")
    assert [each["project"] for each in me["grants"]] == ["vision"]
    assert asks(rig, token, "/api/v1/projects/vision")[0] == 200
    assert asks(rig, token, "/api/v1/projects/search")[0] == asks(rig, token, "/api/v1/projects/none")[0] == 404
    assert [each["name"] for each in asks(rig, token, "/api/v1/projects")[1]["items"]] == ["vision"]
    assert error(asks(rig, token, "/api/v1/nodes")) == (403, "forbidden")


def test_a_person_of_several_projects_sees_both_and_no_list_shows_more(rig: Rig, provider: Provider) -> None:
    member = {"subject": "user:corp:bob", "role": "operator"}
    project = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "search"}}
    assert rig.request("POST", "/api/v1/apply", [{**project, "spec": {"members": [member]}}])[0] == 200
    token = provider.token(sub="bob", email="bob@example.org")
    assert [each["name"] for each in asks(rig, token, "/api/v1/projects")[1]["items"]] == ["search", "vision"]
    assert asks(rig, token, "/api/v1/journal")[0] == 200  # by search's role; the journal of search alone
    journal = asks(rig, token, "/api/v1/journal", headers={"x-stoker-project": "vision"})[1]["items"]
    assert "user:corp:bob" not in str(journal) or "search" in str(journal)
    assert "vision" not in str(journal)
    gone = {**project, "spec": {"members": []}}
    assert rig.request("POST", "/api/v1/apply", [gone])[0] == 200
    assert [each["name"] for each in asks(rig, token, "/api/v1/projects")[1]["items"]] == ["vision"]


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "other"}, "somebody else"),
        ({"aud": "stoker"}, "somebody else"),
        ({"exp": 1}, "expired"),
        ({"nbf": 9_999_999_999}, "not valid yet"),
        ({"iss": "https://evil.example"}, "nobody who is believed"),
    ],
)
def test_a_token_that_does_not_hold_is_refused(
    rig: Rig, provider: Provider, claims: dict[str, Any], words: str
) -> None:
    answer = rig.client_of(provider.token(**claims)).connection
    with pytest.raises(Exception, match=words) as refused:
        answer.exchange("GET", "/auth/session")
    assert refused.value.code == "unauthenticated"  # type: ignore[attr-defined]


def test_a_key_that_turned_over_is_fetched_at_once_and_a_bounded_number_of_times(rig: Rig, provider: Provider) -> None:
    provider.rotate("two")
    assert asks(rig, provider.token())[0] == 200
    before = provider.asked.count("/jwks")
    socket = rig.client_of(provider.token(headers={"kid": "no-such"})).connection  # where nobody has to wait
    for _ in range(8):
        with pytest.raises(Exception, match="does not publish"):
            socket.exchange("GET", "/auth/session")
    assert provider.asked.count("/jwks") - before <= 3


def test_while_a_provider_is_away_its_keys_stay_good_and_everybody_can_see_it(rig: Rig) -> None:
    with oidc.serving() as away:
        away.claims["groups"] = ["ml"]
        believe(rig, away, "away", grants=GRANTS[:1])
        away.is_down = True
        with pytest.raises(Exception, match="does not publish"):
            rig.client_of(away.token(headers={"kid": "new"})).connection.exchange("GET", "/auth/session")
        assert asks(rig, away.token())[0] == 200
        seen = health(rig, "away")
        assert (seen["state"], "answers 503" in seen["problem"]) == ("stale", True)
        assert seen["failing_since_s"] > 0
        until(
            lambda: b'provider_failing{provider="away"} 1' in rig.request("GET", "/metrics")[1],
            "the number says so",
        )
        assert rig.request("DELETE", "/api/v1/providers/away")[0] == 204
        assert error(asks(rig, away.token()))[0] in (401, 429)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"issuer": "https://other.example"}, "says that it is"),
        ({"jwks_uri": "http://169.254.169.254/latest/meta-data"}, "may not send us to"),
        ({"jwks_uri": "http://id.example.org/jwks"}, "only https"),
        ({"jwks_uri": "file:///etc/passwd"}, "no address"),
        ({"jwks_uri": 5}, "does not describe itself"),
    ],
)
def test_a_provider_that_lies_of_itself_is_not_followed(rig: Rig, lie: dict[str, Any], words: str) -> None:
    with oidc.serving() as liar:
        liar.lies = lie
        refuses(rig, liar, words)
        assert "/jwks" not in liar.asked


def test_keys_that_are_elsewhere_too_many_or_none_are_not_taken(rig: Rig) -> None:
    with oidc.serving() as odd:
        odd.elsewhere = f"{odd.issuer}/latest/meta-data"
        refuses(rig, odd, "sends elsewhere")
        assert "/latest/meta-data" not in odd.asked
    for said, words in (
        (b'{"keys":["' + b"x" * 10_000_000 + b'"]}', "says more than"),
        (b'{"keys":[]}', "no key that signatures"),
        (b"[" * 100_000, "cannot be read"),
        (json.dumps({"keys": [{}] * 33}).encode(), "at most 32"),
    ):
        with oidc.serving() as odd:
            odd.jwks = said
            refuses(rig, odd, words)


def refuses(rig: Rig, provider: Provider, words: str) -> None:
    """Apply a provider that cannot be believed, see that it is said, and delete it."""
    status, said, _ = rig.request("POST", "/api/v1/apply", [manifest(provider, "odd")])
    assert status == 200, said
    until(lambda: words in health(rig, "odd").get("problem", ""), lambda: str(health(rig, "odd")))
    assert health(rig, "odd")["state"] == "failing"
    assert rig.request("DELETE", "/api/v1/providers/odd")[0] == 204


# ---- providers as resources


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"issuer": "http://id.example.org"}, "spec.issuer"),
        ({"issuer": "https://user@id.example.org"}, "spec.issuer"),
        ({"algorithms": ["HS256"]}, "spec.algorithms"),
        ({"algorithms": ["none"]}, "spec.algorithms"),
        ({"skew": "1h"}, "spec.skew"),
        ({"client_secret": "s3cret"}, "spec.client_secret"),
        ({"audiences": ["stoker"]}, "spec.audiences"),
        ({"grants": [{"claim": "a", "value": "b", "role": "viewer"}]}, "spec.grants[0]"),
        (
            {
                "client_id": "mine",
                "audiences": [],
                "grants": [{"claim": "a", "value": "b", "role": "emperor", "project": "vision"}],
            },
            "spec.grants[0].role",
        ),
        ({"scopes": ["email"]}, "spec.scopes"),
        ({"client_id": "", "audiences": []}, "spec"),
    ],
)
def test_what_cannot_hold_of_a_provider_is_refused_with_its_field(
    rig: Rig, provider: Provider, spec: dict[str, Any], field: str
) -> None:
    status, said, _ = rig.request("POST", "/api/v1/apply", [manifest(provider, "wrong", **spec)])
    assert status == 400
    assert any(each["field"].startswith(field) for each in said["error"]["details"]), said


def test_a_provider_keeps_its_issuer_and_goes_only_without_members(rig: Rig, provider: Provider) -> None:
    other = manifest(provider, issuer="https://other.example", grants=GRANTS)
    assert "another issuer" in str(rig.request("POST", "/api/v1/apply", [other])[1])
    twice = manifest(provider, "twin")
    assert "takes the tokens of" in str(rig.request("POST", "/api/v1/apply", [twice])[1])
    project = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "search"}}
    member = {"members": [{"subject": "user:corp:eve", "role": "viewer"}]}
    assert rig.request("POST", "/api/v1/apply", [{**project, "spec": member}])[0] == 200
    assert error(rig.request("DELETE", "/api/v1/providers/corp")) == (409, "conflict")
    assert rig.request("POST", "/api/v1/apply", [project])[0] == 200


def test_nobody_gives_by_a_claim_more_than_they_have(rig: Rig, provider: Provider) -> None:
    made = {"name": "p", "access": {"permissions": ["platform:write", "projects:write"], "everywhere": True}}
    key = rig.request("POST", "/api/v1/keys", made)[1]["key"]
    grant = {"claim": "sub", "value": "*", "everywhere": True, "role": "owner"}
    status, said, _ = rig.request(
        "POST", "/api/v1/apply", [manifest(provider, "mine", audiences=["x"], client_id="", grants=[grant])], key=key
    )
    assert (status, said["error"]["code"]) == (403, "forbidden")
    assert error(rig.request("POST", "/api/v1/apply", [manifest(provider, "mine")], key=provider.token())) == (
        403,
        "forbidden",
    )


# ---- browsers


def test_somebody_signs_in_with_a_browser_and_a_page_can_ask_for_them(rig: Rig, provider: Provider) -> None:
    browser = Browser(rig)
    status, _, headers = browser.sign_in(provider, "/auth/login?next=/console")
    assert (status, headers["location"]) == (303, "/console")
    assert headers["cache-control"] == "no-store"
    flags = browser.flags["stoker-session"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags
    assert "stoker-session-sign-in" not in browser.cookies
    me = browser.ask("GET", "/auth/session")[1]
    assert (me["subject"], me["email"]) == ("user:corp:alice", "alice@example.org")
    made = browser.ask("POST", "/api/v1/keys", {"project": "vision"}, csrf=me["csrf"])
    assert error(made) == (403, "forbidden")  # a deployer makes no keys: the door let it through
    listed = browser.ask("GET", "/api/v1/sessions")[1]["items"]
    assert [each["id"] for each in listed if each["current"]] == [me["session"]]
    assert browser.cookies["stoker-session"] not in json.dumps(listed)
    files = b"".join(path.read_bytes() for path in rig.home.root.glob("state.db*") if path.is_file())
    assert browser.cookies["stoker-session"].encode() not in files


def test_with_https_the_cookie_can_be_set_by_nobody_else(rig: Rig) -> None:
    with oidc.serving() as secure:
        secure.claims["groups"] = ["ml"]
        believe(rig, secure, "secure", grants=GRANTS[:1], url="https://stoker.example.org", client_id="other")
        browser = Browser(rig)
        browser.sign_in(secure, "/auth/login?provider=secure")
        flags = browser.flags["__Host-stoker"].lower()
        assert "; secure" in flags
        assert "path=/" in flags
        assert "domain" not in flags
        assert browser.ask("GET", "/auth/session")[0] == 200
        browser.cookies["stoker-session"] = browser.cookies.pop("__Host-stoker")
        assert error(browser.ask("GET", "/auth/session")) == (401, "unauthenticated")
        assert rig.request("DELETE", "/api/v1/providers/secure")[0] == 204


@pytest.mark.parametrize(
    ("named", "is_let_in"),
    [
        ({}, True),
        ({"site": None, "origin": "ours"}, True),
        ({"origin": "ours"}, True),
        ({"site": None}, False),
        ({"site": "cross-site"}, False),
        ({"site": "same-site"}, False),
        ({"site": "none"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"site": None, "origin": "ours.evil.example"}, False),
        ({"csrf": "-"}, False),
        ({"csrf": "A" * 43}, False),
    ],
)
def test_what_another_site_makes_a_browser_send_changes_nothing(
    rig: Rig, provider: Provider, named: dict[str, Any], is_let_in: bool
) -> None:
    browser = signed_in(rig, provider)
    sent = {"csrf": browser.csrf(), **named}
    if sent.get("origin", "").startswith("ours"):
        sent["origin"] = sent["origin"].replace("ours", browser.origin)
    if sent["csrf"] == "-":
        sent["csrf"] = ""
    answer = browser.ask("POST", "/auth/logout", **sent)
    assert answer[0] == (204 if is_let_in else 403)
    assert (browser.ask("GET", "/auth/session")[0] == 401) == is_let_in


def test_another_site_reads_nothing_by_cookie_and_one_sessions_token_is_no_others(rig: Rig, provider: Provider) -> None:
    browser, other = signed_in(rig, provider), signed_in(rig, provider)
    assert error(browser.ask("GET", "/api/v1/projects", site="cross-site")) == (403, "forbidden")
    assert browser.ask("POST", "/auth/logout", csrf=other.csrf())[0] == 403
    headers = {"Authorization": "Bearer " + browser.cookies["stoker-session"]}
    assert rig.request("POST", "/auth/logout", key=None, headers=headers)[0] == 401  # a browser's is no bearer token


def signed_in(rig: Rig, provider: Provider) -> Browser:
    browser = Browser(rig)
    status, said, _ = browser.sign_in(provider)
    assert status == 303, said
    return browser


def test_a_sign_in_ends_once_and_in_the_browser_that_began_it(rig: Rig, provider: Provider) -> None:
    browser, victim = Browser(rig), Browser(rig)
    _, _, headers = browser.ask("GET", "/auth/login")
    back = urlsplit(provider.approve(headers["location"]))
    callback = f"{back.path}?{back.query}"
    assert error(victim.ask("GET", callback)) == (400, "invalid_input")  # who follows somebody else's link
    victim.ask("GET", "/auth/login")
    assert error(victim.ask("GET", callback)) == (400, "invalid_input")
    kept = dict(browser.cookies)
    assert browser.ask("GET", callback)[0] == 303
    browser.cookies = kept
    assert error(browser.ask("GET", callback)) == (400, "invalid_input")
    assert "stoker-session" not in victim.cookies


def test_an_answer_that_is_not_for_this_sign_in_is_refused(rig: Rig, provider: Provider) -> None:
    def end(change: dict[str, str], asked: dict[str, str] | None = None) -> tuple[int, str]:
        browser = Browser(rig)
        _, _, headers = browser.ask("GET", "/auth/login")
        back = urlsplit(provider.approve(headers["location"]))
        said = {**dict(parse_qsl(back.query)), **change}
        provider.codes.get(said.get("code", ""), {}).update(asked or {})
        return error(browser.ask("GET", f"{back.path}?{urlencode(said)}"))

    assert end({"state": "x"}) == (400, "invalid_input")
    assert end({"iss": "https://evil.example"}) == (403, "forbidden")
    assert end({"code": "none"}) == (403, "forbidden")
    assert end({"code": ""}) == (400, "invalid_input")
    assert end({"error": "access_denied"}) == (403, "forbidden")
    assert end({}, {"nonce": "another"}) == (401, "unauthenticated")
    assert end({}, {"client_id": "somebody-else"}) == (401, "unauthenticated")
    assert end({}, {"code_challenge": "x"}) == (403, "forbidden")


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\r\nb"])
def test_nobody_is_sent_anywhere_else_after_a_sign_in(rig: Rig, provider: Provider, path: str) -> None:
    assert error(rig.request("GET", f"/auth/login?{urlencode({'next': path})}", key=None)) == (400, "invalid_input")


def test_a_session_from_before_does_not_become_somebody_elses(rig: Rig, provider: Provider) -> None:
    browser = signed_in(rig, provider)
    planted = browser.cookies["stoker-session"]
    provider.claims["sub"] = "bob"
    browser.sign_in(provider)
    assert browser.cookies["stoker-session"] != planted
    browser.cookies["stoker-session"] = planted
    assert error(browser.ask("GET", "/auth/session")) == (401, "unauthenticated")


def test_who_may_do_nothing_hears_what_to_ask_for_and_not_what_there_is(rig: Rig, provider: Provider) -> None:
    provider.claims = {"sub": "mallory", "groups": ["none"]}
    browser = Browser(rig)
    status, said, _ = browser.sign_in(provider)
    assert (status, said["error"]["code"]) == (403, "forbidden")
    assert "stoker members add user:corp:mallory" in said["error"]["message"]
    assert "vision" not in str(said)
    assert "stoker-session" not in browser.cookies
    me = asks(rig, provider.token())[1]
    assert me["grants"] == []
    for path in ("/api/v1/projects", "/api/v1/projects/vision", "/api/v1/projects/none", "/api/v1/nodes"):
        told = asks(rig, provider.token(), path)[1]["error"]
        assert (told["code"], told["message"]) == ("forbidden", said["error"]["message"])


def test_what_somebody_may_is_asked_each_time_and_their_leaving_ends_all(rig: Rig, provider: Provider) -> None:
    provider.claims = {"sub": "carol"}
    project = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": "search"}}
    member = {"members": [{"subject": "user:corp:carol", "role": "viewer"}]}
    assert rig.request("POST", "/api/v1/apply", [{**project, "spec": member}])[0] == 200
    browser = signed_in(rig, provider)
    assert browser.ask("GET", "/api/v1/projects/search")[0] == 200
    assert rig.request("POST", "/api/v1/apply", [project])[0] == 200
    assert browser.ask("GET", "/api/v1/projects/search")[0] == 403
    assert rig.request("DELETE", "/api/v1/subjects/user:corp:carol")[0] == 200
    assert browser.ask("GET", "/auth/session")[0] == 401


def test_sessions_are_seen_and_ended_by_their_own_and_by_the_platform(rig: Rig, provider: Provider) -> None:
    browser = signed_in(rig, provider)
    provider.claims = {"sub": "bob", "groups": ["ml"]}
    bob = signed_in(rig, provider)
    mine = browser.ask("GET", "/auth/session")[1]["session"]
    his = bob.ask("GET", "/auth/session")[1]["session"]
    assert his not in [each["id"] for each in browser.ask("GET", "/api/v1/sessions")[1]["items"]]
    csrf = browser.csrf()
    refused = browser.ask("DELETE", f"/api/v1/sessions/{his}", csrf=csrf)[:2]
    unknown = browser.ask("DELETE", "/api/v1/sessions/zzzzzzzz", csrf=csrf)[:2]
    assert str(refused).replace(his, "") == str(unknown).replace("zzzzzzzz", "")
    assert {mine, his} <= {each["id"] for each in rig.request("GET", "/api/v1/sessions")[1]["items"]}
    assert rig.request("DELETE", f"/api/v1/sessions/{his}")[0] == 204
    assert error(bob.ask("GET", "/auth/session")) == (401, "unauthenticated")
    assert browser.ask("DELETE", f"/api/v1/sessions/{mine}", csrf=csrf)[0] == 204
    assert browser.ask("GET", "/auth/session")[0] == 401


# ---- the command line's


def test_an_id_token_begins_one_session_of_the_command_line(rig: Rig, provider: Provider) -> None:
    def begin(token: str) -> tuple[int, Any, Any]:
        return rig.request("POST", "/auth/sessions", {"provider": "corp", "id_token": token}, key=None)

    token = provider.id_token()
    status, made, _ = begin(token)
    assert status == 201, made
    assert asks(rig, made["token"])[1]["subject"] == "user:corp:alice"
    assert asks(rig, made["token"], "/api/v1/projects/vision")[0] == 200
    refused = [
        begin(token),
        begin(provider.token()),  # for the API, not for a sign-in
        begin(provider.id_token(iat=int(time.time()) - 3000)),
        begin(provider.id_token(azp="another")),
        begin(made["token"]),
    ]
    assert {error(each)[0] for each in refused} <= {401, 429}
    table = json.loads(
        rig.client.connection.exchange("GET", "/internal/v1/routes", query={"after": -1, "wait_s": 0}).body
    )
    (route,) = [each for each in table["keys"] if each["key"].startswith("oidc-")]
    assert (route["project"], route["calls"]) == ("vision", True)
    logout = {"Authorization": f"Bearer {made['token']}"}
    assert rig.request("POST", "/auth/logout", key=None, headers=logout)[0] == 204
    assert asks(rig, made["token"])[0] in (401, 429)


def test_what_signing_in_changes_is_in_the_audit_as_who_did_it(rig: Rig, provider: Provider) -> None:
    browser = signed_in(rig, provider)
    rows = [each["event"] for each in rig.request("GET", "/api/v1/audit?limit=20")[1]["items"]]
    row = next(each for each in rows if each["action"] == "sign in")
    assert row["subject"] == "user:corp:alice"
    assert row["resources"][0].startswith("session user:corp:alice/")
    assert browser.cookies["stoker-session"] not in json.dumps(rows)
    browser.ask("POST", "/auth/logout", csrf=browser.csrf())
    rows = [each["event"] for each in rig.request("GET", "/api/v1/audit?limit=20")[1]["items"]]
    row = next(each for each in rows if each["actor"] != "platform")
    assert (row["action"], row["subject"], row["changes"][0]["did"]) == (
        "POST /auth/logout",
        "user:corp:alice",
        "delete",
    )
