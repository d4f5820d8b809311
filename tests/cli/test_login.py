"""`stoker login` as a person does it: with a browser, on another device, again when it ends, and out."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from stoker.cli.exits import Exit
from stoker.client import signed_in
from stoker.client.control import ControlClient
from stoker.client.credentials import read_credentials
from tests import oidc
from tests.cli.run import STOKER, stoker_here
from tests.oidc import Provider

PROVIDER = """
apiVersion: stoker/v1
kind: IdentityProvider
metadata: {{name: corp}}
spec:
  issuer: {issuer}
  client_id: stoker
  grants: [{{claim: groups, value: ml, project: default, role: operator}}]
"""


@pytest.fixture(scope="module")
def provider(home: Path) -> Iterator[Provider]:
    with oidc.serving() as made:
        applied = stoker_here("apply", "-f", "-", home=home, stdin=PROVIDER.format(issuer=made.issuer))
        assert applied.returncode == 0, applied.stderr
        yield made


@pytest.fixture(autouse=True)
def alice(provider: Provider, control: ControlClient) -> None:
    provider.claims = {"sub": "alice", "email": "alice@example.org", "email_verified": True, "groups": ["ml"]}
    end_s = time.monotonic() + 60
    while signed_in.providers(control.connection)[0].state != "ok":
        assert time.monotonic() < end_s
        time.sleep(0.02)


class Person:
    """Somebody with a state folder of their own, which knows no key."""

    def __init__(self, control_home: Path, home: Path) -> None:
        self.home = home
        self.api = read_credentials(control_home / "credentials.json").api

    @property
    def file(self) -> Path:
        return self.home / "session.json"

    def run(self, *arguments: str) -> CompletedProcess[str]:
        return stoker_here(*arguments, home=self.home)

    def sign_in(self) -> CompletedProcess[str]:
        """Run `stoker login`, and open the address that it prints in a browser."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        clean["STOKER_HOME"] = str(self.home)
        argv = [str(STOKER), "--api", self.api, "login", "--no-browser"]
        with subprocess.Popen(argv, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line
                if line.strip().startswith("http"):
                    with urllib.request.urlopen(line.strip(), timeout=60) as page:
                        assert b"close this page" in page.read()
                    break
            out, err = process.communicate(timeout=60)
        return CompletedProcess(argv, process.returncode, out, said + err)

    def change(self, **fields: Any) -> None:
        self.file.write_text(json.dumps({**json.loads(self.file.read_text()), **fields}))


@pytest.fixture
def person(home: Path, tmp_path: Path) -> Person:
    return Person(home, tmp_path / "h")


def test_somebody_signs_in_asks_for_something_and_signs_out(person: Person, home: Path) -> None:
    done = person.sign_in()
    assert done.returncode == 0, done.stderr
    assert "signed in as alice@example.org (user:corp:alice)" in done.stdout
    assert person.file.stat().st_mode & 0o777 == 0o600
    listed = person.run("get", "projects")
    assert (listed.returncode, "default" in listed.stdout) == (0, True), listed.stderr
    assert "user:corp:alice" in person.run("sessions", "whoami").stdout
    assert person.run("get", "nodes").returncode == Exit.NOT_ALLOWED
    (mine,) = json.loads(person.run("sessions", "list", "-o", "json").stdout)["items"]
    assert "alice@example.org" in stoker_here("sessions", "list", home=home).stdout
    token = json.loads(person.file.read_text())["token"]
    assert person.run("logout").returncode == 0
    assert not person.file.exists()
    assert mine["id"] not in stoker_here("sessions", "list", home=home).stdout
    refused = person.run("--api", person.api, "--key", token, "get", "projects")
    assert refused.returncode != 0
    assert "signed in" in person.run("logout").stdout


def test_a_code_is_entered_on_another_device(person: Person, provider: Provider) -> None:
    done = person.run("--api", person.api, "login", "--device")
    assert done.returncode == 0, done.stderr
    assert "ABCD-EFGH" in done.stderr
    assert provider.asked.count("/token") >= 2
    assert person.run("get", "projects").returncode == 0


def test_a_session_that_ends_is_renewed_and_one_that_cannot_be_says_what_to_do(
    person: Person, provider: Provider
) -> None:
    assert person.sign_in().returncode == 0
    before = signed_in.read(person.file)
    assert before is not None
    person.change(expires_at_s=1.0)
    assert person.run("get", "projects").returncode == 0
    after = signed_in.read(person.file)
    assert after is not None
    assert (after.token != before.token, after.refresh_token != before.refresh_token) == (True, True)
    assert person.file.stat().st_mode & 0o777 == 0o600
    person.change(expires_at_s=1.0)
    provider.refresh.clear()
    ended = person.run("get", "projects")
    assert ended.returncode == Exit.NOT_ALLOWED
    assert "stoker login" in ended.stderr


def test_who_may_do_nothing_keeps_no_session_and_hears_what_to_ask_for(person: Person, provider: Provider) -> None:
    provider.claims = {"sub": "mallory"}
    done = person.sign_in()
    assert done.returncode == Exit.NOT_ALLOWED
    assert "stoker members add user:corp:mallory" in done.stderr
    assert not person.file.exists()


def test_a_provider_is_listed_with_how_it_does(home: Path, provider: Provider) -> None:
    (line,) = [each for each in stoker_here("get", "providers", home=home).stdout.splitlines() if "corp" in each]
    assert provider.issuer in line
    assert " ok " in line
    missing = stoker_here("get", "provider", "none", home=home)
    assert missing.returncode == Exit.NOT_FOUND
    person = Person(home, home / "none")
    assert person.run("--api", person.api, "login", "--provider", "none").returncode == Exit.NOT_FOUND


def test_of_a_provider_that_is_away_nobody_is_told_to_start_stoker(person: Person, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "away.yaml"
    file.write_text(
        "{apiVersion: stoker/v1, kind: IdentityProvider, metadata: {name: away},"
        " spec: {issuer: 'https://away.invalid', audiences: [api], client_id: cli}}"
    )
    applied = stoker_here("apply", "-f", str(file), home=home)
    assert applied.returncode == 0, applied.stderr
    try:
        done = person.run("--api", person.api, "login", "--provider", "away", "--no-browser")
    finally:
        assert stoker_here("delete", "provider", "away", home=home).returncode == 0
    assert done.returncode == Exit.NOT_REACHABLE, done.stderr
    assert "the identity provider away (https://away.invalid) is asked from this machine" in done.stderr
    assert "stoker up" not in done.stderr
