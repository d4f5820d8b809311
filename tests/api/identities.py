"""An identity provider that a rig's control believes, and people of it."""

import http.cookies
import json
from typing import Any
from urllib.parse import urlsplit

from tests.control.rig import Rig, until
from tests.oidc import Provider


def manifest(provider: Provider, name: str = "corp", **spec: Any) -> dict[str, Any]:
    named = {"issuer": provider.issuer, "client_id": "stoker", "audiences": ["stoker-api"], **spec}
    return {"apiVersion": "stoker/v1", "kind": "IdentityProvider", "metadata": {"name": name}, "spec": named}


def health(rig: Rig, name: str = "corp") -> dict[str, Any]:
    listed = rig.request("GET", "/api/v1/providers")[1]["items"]
    return next((each for each in listed if each["name"] == name), {})


def believe(rig: Rig, provider: Provider, name: str = "corp", **spec: Any) -> None:
    """Apply a provider and wait until the route table has its keys."""
    status, said, _ = rig.request("POST", "/api/v1/apply", [manifest(provider, name, **spec)])
    assert status == 200, said
    until(lambda: known(rig, name), lambda: str(health(rig, name)))


def known(rig: Rig, name: str) -> Any:
    query = {"after": -1, "wait_s": 0}
    table = json.loads(rig.client.connection.exchange("GET", "/internal/v1/routes", query=query).body)
    return [each for each in table["providers"] if each["name"] == name]


class Browser:
    """What a browser keeps of cookies, and sends with what it is told to ask."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.cookies: dict[str, str] = {}
        self.flags: dict[str, str] = {}

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.rig.port + 1}"

    def ask(
        self, method: str, path: str, body: Any = None, *, site: str | None = "same-origin", csrf: str = "", **more: str
    ) -> tuple[int, Any, Any]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if site is not None:
            headers["Sec-Fetch-Site"] = site
        if csrf:
            headers["x-stoker-csrf"] = csrf
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        status, said, answered = self.rig.request(method, path, body, key=None, headers=headers)
        for line in answered.get_all("set-cookie") or []:
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self.flags[name] = line
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return status, said, answered

    def sign_in(self, provider: Provider, path: str = "/auth/login") -> tuple[int, Any, Any]:
        """Go to the provider and back; return what the callback says."""
        status, said, headers = self.ask("GET", path)
        assert status == 303, said
        back = urlsplit(provider.approve(headers["location"]))
        return self.ask("GET", f"{back.path}?{back.query}", site="cross-site", sec_fetch_mode="navigate")

    def csrf(self) -> str:
        return str(self.ask("GET", "/auth/session")[1]["csrf"])
