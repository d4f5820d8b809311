"""Vault as it is asked: who one is there, what it says, and what is believed of it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.core.secrets import parse
from stoker.secrets.vault import Vault, VaultSettings
from stoker.types.errors import SecretUnavailable
from tests.secrets import vault_server
from tests.secrets.vault_server import JWT, ROLE, SECRET_ID, TOKEN, VaultServer

REF = parse("vault:secret/stoker/team/openai#key")
PATH = "secret/stoker/team/openai"


@pytest.fixture
def server() -> Iterator[VaultServer]:
    with vault_server.serving() as found:
        found.put(PATH, key="one", other="x")
        yield found


def client(server: VaultServer, timeout_s: float = 60.0, rest_s: float = 0.0, **more: str) -> Vault:
    return Vault(VaultSettings(address=server.url, **(more or {"token": TOKEN})), timeout_s, rest_s)


def test_the_newest_version_is_read(server: VaultServer) -> None:
    vault = client(server)
    assert vault.read(REF) == "one"
    server.put(PATH, key="two")
    assert vault.read(REF) == "two"
    with pytest.raises(SecretUnavailable, match="no text in its field 'other'"):
        vault.read(parse(f"vault:{PATH}#other"))
    with pytest.raises(SecretUnavailable, match="no such secret"):
        vault.read(parse("vault:secret/stoker/team/none#key"))


def test_a_token_file_is_read_at_each_use(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hvs.of-before\n")
    vault = client(server, token_file=str(file))
    with pytest.raises(SecretUnavailable, match="refuses"):
        vault.read(REF)
    file.write_text(f"{TOKEN}\n")
    assert vault.read(REF) == "one"
    file.unlink()
    with pytest.raises(SecretUnavailable, match="STOKER_VAULT_TOKEN_FILE"):
        vault.read(REF)


def test_an_approle_logs_in_once_and_again_when_its_token_ended(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "secret-id"
    file.write_text(SECRET_ID)
    vault = client(server, role_id=ROLE, secret_id_file=str(file))
    assert [vault.read(REF), vault.read(REF)] == ["one", "one"]
    assert server.logins == 1
    del server.tokens["hvs.login-1"]  # revoked
    assert vault.read(REF) == "one"
    assert server.logins == 2


def test_a_service_accounts_token_logs_in(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "jwt"
    file.write_text(JWT)
    assert client(server, jwt_role=ROLE, jwt_file=str(file)).read(REF) == "one"
    assert ("POST", "/v1/auth/kubernetes/login") in server.asked
    other = client(server, jwt_role=ROLE, jwt_file=str(file), auth_mount="jwt-prod")
    assert other.read(REF) == "one"
    assert ("POST", "/v1/auth/jwt-prod/login") in server.asked


def test_a_token_is_renewed_before_it_ends(
    server: VaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret-id"
    file.write_text(SECRET_ID)
    server.lease_s = 90
    now_s = time.monotonic()
    vault = client(server, role_id=ROLE, secret_id_file=str(file))
    vault.read(REF)
    monkeypatch.setattr("stoker.secrets.vault.RENEW_SHARE", 0.0)
    monkeypatch.setattr(vault, "_renew_at_s", now_s)
    vault.read(REF)
    assert (server.logins, server.renewals) == (1, 1)
    server.tokens.clear()  # nothing can be renewed any more
    assert vault.read(REF) == "one"
    assert server.logins == 2


def test_a_namespace_goes_with_each_request(server: VaultServer) -> None:
    server.namespace = "team"
    with pytest.raises(SecretUnavailable, match="refuses"):
        client(server).read(REF)
    assert client(server, token=TOKEN, namespace="team").read(REF) == "one"


def test_without_a_way_in_it_says_what_to_set(server: VaultServer) -> None:
    with pytest.raises(SecretUnavailable, match="STOKER_VAULT_ROLE_ID"):
        client(server, role_id="").read(REF)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("429", "too often"),
        ("503", "sealed"),
        ("500", r"cannot be read \(500\)"),
        ("302", r"cannot be read \(302\)"),
        ("html", "no secret of KV version 2"),
        ("number", "no text in its field"),
        ("flat", "no text in its field"),
        ("deleted", "no text in its field"),
        ("huge", "over 1048576 bytes"),
        ("long", "over 65536 bytes"),
        ("cut", "cannot be reached"),
    ],
)
def test_what_is_no_answer_is_told_without_its_words(server: VaultServer, fault: str, words: str) -> None:
    server.fault = fault
    with pytest.raises(SecretUnavailable, match=words) as told:
        client(server).read(REF)
    assert "TOP-SECRET" not in str(told.value)
    assert told.value.retry_after_s == (7.0 if fault == "429" else None)


@pytest.mark.parametrize("fault", ["endless head", "endless body", "silent"])
def test_a_server_that_never_ends_costs_no_more_than_the_timeout(server: VaultServer, fault: str) -> None:
    server.fault = fault
    began_s = time.monotonic()
    with pytest.raises(SecretUnavailable, match=r"did not answer in 0\.3 s"):
        client(server, timeout_s=0.3).read(REF)
    assert time.monotonic() - began_s < 2.0


def test_a_server_that_is_away_is_asked_once_for_a_thousand_secrets(server: VaultServer) -> None:
    vault = client(server, rest_s=60.0)
    server.fault = "503"
    for number in range(1000):
        with pytest.raises(SecretUnavailable, match=f"openai{number}: Vault is sealed"):
            vault.read(parse(f"vault:secret/stoker/team/openai{number}#key"))
    assert len(server.asked) == 1


def test_nobody_there_is_told(server: VaultServer) -> None:
    away = Vault(VaultSettings(address="http://127.0.0.1:9", token=TOKEN), 1.0)
    with pytest.raises(SecretUnavailable, match="cannot be reached"):
        away.read(REF)
    assert TOKEN not in repr(VaultSettings(address="x", token=TOKEN))
