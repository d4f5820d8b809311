"""The gateways' part of the authorization walk: every route of the data plane with every kind of key."""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any, cast

import jwt
import msgspec
import pytest

from stoker.app.home import Home
from stoker.core.guesses import FREE
from stoker.gateway.directory import Directory
from stoker.gateway.plane import routes
from stoker.gateway.stack import Stack
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.tokens import keys_of
from stoker.telemetry.metrics import Registry
from stoker.types.identity import GrantRoute, ProviderRoute
from tests.gateway.rig import KEY, TEAM_KEY, Answer, Rig, ask, client, link_to, run
from tests.oidc import Key

# Open to anybody, but for the numbers: those are for this machine, and for keys that may read them.
OPEN = {"GET /v2", "GET /v2/health/live", "GET /v2/health/ready", "GET /healthz", "GET /readyz", "GET /metrics"}
LISTS = {"GET /v1/models", "POST /v2/repository/index"}
BODIES = {"/v1/chat/completions": "smol", "/v1/completions": "smol", "/v1/embeddings": "mini"}
INFER = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}


class _Labels:
    """Says what each route's stack is, in place of one."""

    directory = Directory(Registry("gateway-0"), lambda *_: None)

    def inference(self) -> str:
        return "key"

    def reading(self, _call: object) -> str:
        return "key"

    def open(self, _call: object) -> str:
        return "open"


def every_route() -> dict[str, str]:
    """Return what each route of the data plane asks for."""
    router = routes(cast(Stack, _Labels()), cast(Any, None))
    trees = {
        **{path.decode(): methods for path, methods in router.exact.items()},
        "/v1/models/{}": router.models,
        **{f"/v2/models/{{}}/{rest.decode()}".rstrip("/"): methods for rest, methods in router.oip.items()},
    }
    return {
        f"{method.decode()} {path}": str(route.handle)
        for path, methods in trees.items()
        for method, route in methods.items()
    }


def text(name: str) -> str:
    return f"stk_{name:0<8}_{'0' * 43}"


SIGNER = Key("one")
PROVIDER = ProviderRoute(
    "corp", "https://id.example.org", ("api",), ("RS256",), "user",
    keys_of(json.dumps({"keys": [SIGNER.public()]}).encode()), 4e9,
    grants=(GrantRoute("groups", "ml", "default"), GrantRoute("groups", "ops", "", sees=True)),
    members={"user:corp:tina": ("team",), "user:corp:both": ("team", "default")},
)  # fmt: skip


def token(sub: str, **claims: Any) -> str:
    said = {"iss": PROVIDER.issuer, "aud": "api", "sub": sub, "exp": int(time.time()) + 600, **claims}
    return jwt.encode(said, SIGNER.private, algorithm="RS256", headers={"kid": "one"})


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(Home(tmp_path_factory.mktemp("walk") / "h"))
    made.home.make()
    for name, more in (
        ("viewer", {"calls": False}),
        ("scoped", {"endpoints": ["sm*"]}),
        ("numbers", {"calls": False, "sees": True}),
    ):
        sha256 = hashlib.sha256(text(name).encode()).hexdigest()
        made.keys.append({"sha256": sha256, "key": name, "project": "default", **more})
    made.providers.append(msgspec.to_builtins(PROVIDER))
    made.start_replica("r0")
    made.write_table(["r0"])
    made.start_gateway()
    yield made
    made.close()


async def call(rig: Rig, route: str, endpoint: str, key: str | None) -> Answer:
    method, _, path = route.partition(" ")
    body: Any = None
    if method == "POST":
        body = {"model": endpoint, "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
        body = json.dumps(INFER if path.endswith("infer") else body).encode()
    return await ask(rig, method, path.replace("{}", endpoint), body, key=key)


def test_what_needs_no_key_is_what_the_table_says() -> None:
    assert {route for route, wanted in every_route().items() if wanted == "open"} == OPEN


def test_every_route_opens_to_who_may_call_its_endpoint_and_to_nobody_else(rig: Rig) -> None:
    async def work() -> None:
        for route, wanted in every_route().items():
            if wanted == "open":
                continue
            path = route.partition(" ")[2]
            name = BODIES.get(path, "smol" if path.startswith("/v1") else "digits")
            assert (await call(rig, route, name, None)).status == 401, route
            assert (await call(rig, route, name, text("viewer"))).status == 403, route
            mine = await call(rig, route, name, KEY)
            assert mine.status not in (401, 403, 404), (route, mine.body)
            scoped = await call(rig, route, name, text("scoped"))
            foreign = await call(rig, route, name, TEAM_KEY)
            if route in LISTS:
                assert b"smol" in scoped.body
                assert b"digits" not in scoped.body + foreign.body
                assert b"secret" not in scoped.body
                assert b"secret" in foreign.body
                continue
            assert (scoped.status == 404) == (name != "smol"), route
            missing = await call(rig, route, "nobody", TEAM_KEY)
            assert foreign.status == missing.status == 404, (route, foreign.body)
            assert foreign.body.replace(name.encode(), b"") == missing.body.replace(b"nobody", b"")
            beside = await call(rig, route, "nobody", text("scoped"))
            assert scoped.status != 404 or scoped.body.replace(name.encode(), b"") == beside.body.replace(
                b"nobody", b""
            )

    run(work)


def test_every_route_opens_to_a_token_as_to_a_key_of_the_same_rights(rig: Rig) -> None:
    mine, tina, nobody, both = token("m", groups=["ml"]), token("tina"), token("n"), token("both")
    over = token("m", groups=["ml"], exp=int(time.time()) - 600)

    async def work() -> None:
        for route, wanted in every_route().items():
            if wanted == "open":
                continue
            path = route.partition(" ")[2]
            name = BODIES.get(path, "smol" if path.startswith("/v1") else "digits")
            assert (await call(rig, route, name, mine)).status not in (401, 403, 404), route
            assert (await call(rig, route, name, nobody)).status == 403, route
            foreign, other = [await call(rig, route, name, each) for each in (tina, TEAM_KEY)]
            assert (foreign.status, foreign.body) == (other.status, other.body), route
            assert (await call(rig, route, name, both)).status not in (401, 403, 404), route
        assert (await call(rig, "GET /v1/models", "", over)).status == 401
        listed = (await call(rig, "GET /v1/models", "", both)).body
        assert b"team/secret" in listed
        assert b'"smol"' in listed
        assert b"team/secret" not in (await call(rig, "GET /v1/models", "", mine)).body
        named = {"x_stoker_project": "team"}
        assert (await ask(rig, "GET", "/v2/models/secret", key=both, **named)).status == 200
        assert (await ask(rig, "GET", "/v2/models/team%2Fsecret", key=both)).status in (200, 404)
        assert (await ask(rig, "GET", "/v2/models/secret", key=mine, **named)).status == 403

    run(work)


def test_no_size_of_a_body_tells_what_is_there(rig: Rig) -> None:
    async def work() -> None:
        large = b"x" * (40 << 20)
        answers = [
            await ask(rig, "POST", f"/v2/models/{name}/infer", large, key=text("scoped")) for name in ("digits", "none")
        ]
        assert answers[0].status == answers[1].status
        assert answers[0].body.replace(b"digits", b"") == answers[1].body.replace(b"none", b"")

    run(work)


def test_numbers_are_for_this_machine_and_for_keys_that_may_read_them(rig: Rig) -> None:
    async def work() -> None:
        assert (await ask(rig, "GET", "/metrics", key=None)).status == 200
        for header in ({"x_forwarded_for": "10.0.0.1"}, {"forwarded": "for=10.0.0.1"}):
            assert (await ask(rig, "GET", "/metrics", key=None, **header)).status == 401
            assert (await ask(rig, "GET", "/metrics", key=TEAM_KEY, **header)).status == 403
            assert (await ask(rig, "GET", "/metrics", key=text("numbers"), **header)).status == 200

    run(work)


def test_which_keys_were_used_is_told_once(rig: Rig) -> None:
    async def told() -> list[str]:
        link = await link_to(rig.home.address("gateway-0"))
        try:
            answer = await link.call(RequestHead(method="keys"), b"", kind=Kind.CALL).answer()
        finally:
            link.close()
        return msgspec.json.decode(answer[1], type=list[str])

    async def work() -> None:
        await told()
        await ask(rig, "GET", "/v1/models", key=text("scoped"))
        await ask(rig, "GET", "/v1/models", key=text("scoped"))
        assert await told() == ["scoped"]
        assert await told() == []

    run(work)


def test_who_tries_keys_waits_and_the_good_key_beside_it_does_not(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            answers = [await one.request("GET", "/v1/models", key=f"stk_none_{number}") for number in range(3 * FREE)]
            assert [answers[0].status, answers[-1].status] == [401, 429]
            assert int(answers[-1].headers["retry-after"]) >= 1
            assert answers[-1].json["error"]["code"] == "rate_limit_exceeded"
            assert (await one.request("GET", "/v1/models", key=KEY)).status == 200
        assert (await ask(rig, "GET", "/v1/models", key=TEAM_KEY)).status == 200, "a key that was not seen before too"

    run(work)
