"""Quotas through the API: races at the limit, who may change them, and what is refused before its bytes are taken."""

import hashlib
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.client import access, quotas
from stoker.client.registration import Registration
from stoker.client.upload import push
from stoker.client.usage import records
from stoker.types.access import KeyAccess
from stoker.types.errors import Conflict, Forbidden, InvalidInput, NotFound, OverQuota, StokerError
from tests.api.test_usage import ship
from tests.control.rig import Rig, endpoint
from tests.store.test_usage import NOW_S, record


def project(rig: Rig, name: str, **quota: Any) -> str:
    """Make a project with a quota, and return a key of its owner."""
    body = {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": name}, "spec": {"quota": quota}}
    rig.client.apply(msgspec.json.encode(body))
    return access.create_key(rig.client, name, "owner", KeyAccess(role="owner")).key


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Do all at the same time; return their answers, or errors."""

    def safe(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except StokerError as refused:
            return refused

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(safe, works))


def test_of_two_pushes_at_once_at_the_limit_of_storage_one_is_refused(rig: Rig, onnx_files: list[Path]) -> None:
    size = max(each.stat().st_size for each in onnx_files[:2])
    owner = rig.client_of(project(rig, "stored", storage=int(size * 1.5)))
    done = at_once(
        *(
            lambda at=at: push(owner, f"stored-{at}", onnx_files[at], Registration(files=()), lambda *_: None)
            for at in range(2)
        )
    )  # type: ignore[misc]
    refused = [each for each in done if isinstance(each, Exception)]
    assert len(refused) == 1, done
    assert isinstance(refused[0], OverQuota)
    assert "more are asked for" in refused[0].message
    (used,) = [each for each in quotas.everything(owner, "stored") if each.name == "storage"]
    assert used.used is not None
    assert 0 < used.used <= used.limit


def test_bytes_over_the_quota_are_refused_before_they_are_sent(rig: Rig) -> None:
    key = project(rig, "full", storage=1000)
    digest = "sha256:" + hashlib.sha256(b"never sent").hexdigest()
    with socket.create_connection(("127.0.0.1", rig.port + 1), timeout=60) as connection:
        head = f"PUT /api/v1/blobs/{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        connection.sendall((head + "Content-Length: 5000\r\n\r\n").encode())
        answer = connection.recv(4096)
        while b"\r\n\r\n{" not in answer and (more_of_it := connection.recv(4096)):
            answer += more_of_it
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"over_quota" in answer
    some = b"a" * 600
    path = "/api/v1/blobs/sha256:{}"
    assert rig.request("PUT", path.format(hashlib.sha256(some).hexdigest()), some, key=key)[0] == 201
    more = b"b" * 600  # no version has the first ones yet, and they count
    assert rig.request("PUT", path.format(hashlib.sha256(more).hexdigest()), more, key=key)[0] == 409
    assert rig.request("PUT", path.format(hashlib.sha256(b"c").hexdigest()), b"c", key=key)[0] == 201


def test_of_deploys_at_once_as_many_are_taken_as_fit(rig: Rig, model: str) -> None:
    project(rig, "crowded", endpoints=2)
    done = at_once(
        *(
            lambda at=at: rig.request("POST", "/api/v1/apply", endpoint(f"e{at}", model, project="crowded"))
            for at in range(6)
        )  # type: ignore[misc]
    )
    assert Counter(status for status, *_ in done) == {200: 2, 400: 4}


def test_of_keys_at_once_as_many_are_made_as_fit(rig: Rig) -> None:
    project(rig, "keyed", keys=3)  # one is the owner's
    done = at_once(*(lambda: access.create_key(rig.client, "keyed", "k", KeyAccess(role="viewer")) for _ in range(6)))
    assert sum(isinstance(each, OverQuota) for each in done) == 4, done


def test_of_two_members_added_at_once_none_is_lost(rig: Rig) -> None:
    project(rig, "busy")
    names = [f"user:u{at}@example.org" for at in range(8)]
    at_once(*(lambda name=name: access.set_member(rig.client, "busy", name, "viewer") for name in names))  # type: ignore[misc]
    assert {each.subject for each in access.project(rig.client, "busy").spec.members} == set(names)
    at_once(*(lambda name=name: access.remove_member(rig.client, "busy", name) for name in names[:7]))  # type: ignore[misc]
    assert [each.subject for each in access.project(rig.client, "busy").spec.members] == names[7:]
    with pytest.raises(NotFound, match="is no member"):
        access.remove_member(rig.client, "busy", names[0])
    for subject, role in (("nobody", "viewer"), ("user:a@example.org", "emperor")):
        with pytest.raises(InvalidInput):
            access.set_member(rig.client, "busy", subject, role)


def test_a_quota_is_changed_by_part_and_only_by_who_has_the_platform(rig: Rig) -> None:
    owner = rig.client_of(project(rig, "changed", endpoints=2))
    found = quotas.change(rig.client, "changed", {"storage": "1Gi", "requests_per_s": 5})
    assert (found.endpoints, found.storage, found.requests_per_s) == (2, "1Gi", 5.0)
    assert quotas.change(rig.client, "changed", {"storage": None}).storage is None
    for wrong in (
        {"storage": "much"},
        {"colour": 1},
        {"timezone": "Mars/Base"},
        {"endpoints": -1},
        {"burst": 3, "requests_per_s": 0},
    ):
        with pytest.raises(InvalidInput):
            quotas.change(rig.client, "changed", wrong)
    with pytest.raises((Forbidden, NotFound)):
        quotas.change(owner, "changed", {"endpoints": 200})
    with pytest.raises((Forbidden, NotFound)):
        quotas.change(owner, "", {"keys": 1})
    assert {each.name for each in quotas.everything(owner)} == {"endpoints", "requests_per_s"}


def test_the_platform_has_a_quota_of_its_own_that_its_admin_sees(rig: Rig, model: str) -> None:
    quotas.change(rig.client, "", {"endpoints": 2, "warn_at": 0.5})
    try:
        shown = [each for each in quotas.everything(rig.client) if not each.project]
        assert [(each.name, each.limit) for each in shown] == [("endpoints", 2.0)]
        assert shown[0].used is not None
        room = int(2 - shown[0].used)
        statuses = [
            rig.request("POST", "/api/v1/apply", endpoint(f"whole{at}", model))[0] for at in range(max(room, 0) + 1)
        ]
        assert statuses[-1] == 400
    finally:
        quotas.change(rig.client, "", {"endpoints": None})


def test_records_are_read_one_by_one_by_who_may(rig: Rig) -> None:
    key = project(rig, "team")
    mine = [msgspec.structs.replace(record(at), request=f"mine-{at}") for at in range(5)]
    others = [msgspec.structs.replace(record(at), request=f"other-{at}", project="default") for at in range(5)]
    mixed = [each for pair in zip(mine, others, strict=True) for each in pair]
    assert ship(rig, 1, *mixed, incarnation="records") == 10
    assert ship(rig, 1, *mixed, incarnation="records") == 10
    when = {"from_": str(NOW_S - 3600), "to": str(NOW_S + 3600)}
    owner = rig.client_of(key).connection
    first = records(owner, **when, limit=3)
    assert [each.request for each in first.items] == ["mine-0", "mine-1", "mine-2"]
    assert first.items[0].price_usd == "0.000000001"
    assert not first.is_last
    rest = records(owner, **when, after=first.next)
    assert [each.request for each in rest.items] == ["mine-3", "mine-4"]
    assert rest.is_last
    assert records(owner, **when, after=rest.next).items == []
    everybodys = records(rig.client.connection, **when).items
    assert [each.request for each in everybodys if each.request.startswith(("mine", "other"))] == [
        each.request for each in mixed
    ]
    with pytest.raises(NotFound):
        records(owner, **when, project="default")
    with pytest.raises(InvalidInput, match="is no place"):
        records(owner, after="x")


def test_a_quota_of_requests_is_a_budget_with_a_unit(rig: Rig) -> None:
    key = project(rig, "counted")

    def apply(client: Any, **spec: Any) -> Any:
        body = {
            "apiVersion": "stoker/v1",
            "kind": "Budget",
            "metadata": {"name": "daily", "project": "counted"},
            "spec": spec,
        }
        return client.apply(msgspec.json.encode(body))

    apply(rig.client, amount=1000, unit="requests", period="day")
    (shown,) = quotas.everything(rig.client_of(key))
    assert (shown.name, shown.used, shown.limit, shown.unit, shown.period) == ("daily", 0.0, 1000.0, "requests", "day")
    assert shown.resets_at_s > 0
    for wrong in ({"amount": "1.5", "unit": "tokens"}, {"amount": 5, "unit": "requests", "on_limit": "fallback"}):
        with pytest.raises(InvalidInput):
            apply(rig.client, **wrong)
    with pytest.raises((Forbidden, NotFound)):
        apply(rig.client_of(key), amount=10**9, unit="requests", scope="platform")
    assert issubclass(OverQuota, Conflict)
