"""Usage and prices through the API: who sees what, by which names, and what gateways ship."""

from typing import Any

import msgspec
import pytest

from stoker.client.connection import Connection
from stoker.client.usage import prices, set_prices, usage
from stoker.types.errors import Forbidden, InvalidInput, NotFound
from stoker.types.prices import DefaultPrice, Price, PriceBook
from tests.control.rig import Rig
from tests.store.test_usage import NOW_S, record

DAY_S = 86_400


def ship(rig: Rig, first: int, *records: Any, incarnation: str = "i1") -> int:
    body = msgspec.msgpack.encode(("gateway-0", incarnation, first, 0, records))
    answer = rig.client.connection.exchange("POST", "/internal/v1/usage", body=body)
    return int(msgspec.json.decode(answer.body)["until"])


@pytest.fixture(scope="module")
def used(rig: Rig) -> Connection:
    """Records of two projects over two days; returns a way in with a key of project team, which is no admin's."""
    rig.client.apply(b"{apiVersion: stoker/v1, kind: Project, metadata: {name: team}}")
    one, two = (
        record(1, NOW_S, tags=(("team", "a"),)),
        record(2, NOW_S - DAY_S, "digits", (("run", "7"), ("team", "b"))),
    )
    other = msgspec.structs.replace(record(3), project="default", price_nano_usd=5)
    assert ship(rig, 1, one, two, other) == 3
    assert ship(rig, 1, one, two, other) == 3
    key = rig.client.create_key("team", "reader", admin=False, expires_in_s=None).key
    return Connection(f"unix:{rig.home.run / 'control-api.sock'}", key)


def found(connection: Connection, by: str, **more: str) -> dict[tuple[str, ...], int]:
    report = usage(connection, by=by, **{"from_": str(NOW_S - 5 * DAY_S), "to": str(NOW_S + DAY_S), **more})
    return {tuple(row.by.values()): row.price_nano_usd for row in report.items}


def test_an_admin_sees_all_projects_and_others_their_own(rig: Rig, used: Connection) -> None:
    admin = rig.client.connection
    assert found(admin, "project,endpoint") == {("team", "digits"): 100, ("team", "chat"): 10, ("default", "chat"): 5}
    assert found(admin, "project", project="default") == {("default",): 5}
    assert found(used, "project") == {("team",): 110}
    with pytest.raises(NotFound):  # it must not learn what is there
        found(used, "project", project="default")


def test_counts_by_times_and_tags(used: Connection) -> None:
    assert found(used, "day") == {("2027-01-14",): 100, ("2027-01-15",): 10}
    assert found(used, "hour", from_=str(NOW_S - 3600)) == {("2027-01-15T08:00Z",): 10}
    assert found(used, "month") == {("2027-01",): 110}
    assert found(used, "tag:team,tag:run") == {("b", "7"): 100, ("a", ""): 10}
    assert found(used, "tags") == {("run=7,team=b",): 100, ("team=a",): 10}
    assert found(used, "key,tenant,revision") == {
        ("k1", "acme", "team.digits-1"): 100,
        ("k1", "acme", "team.chat-1"): 10,
    }


def test_times_are_days_months_and_ago(used: Connection) -> None:
    assert found(used, "project", from_="2027-01-15", to="2027-02") == {("team",): 10}
    assert found(used, "project", from_="2027-01", to="2027-01-15") == {("team",): 100}
    assert found(used, "project", from_="1h", to="1m") == {}
    for wrong in ("yesterday", "2027-13", "-1d"):
        with pytest.raises(InvalidInput, match="is no moment"):
            found(used, "project", from_=wrong)


def test_an_unknown_name_is_told_with_the_known_ones(used: Connection) -> None:
    with pytest.raises(InvalidInput, match=r"'colour' is nothing to count by; there are project, .*tag:NAME, hour"):
        found(used, "colour")


def test_what_is_no_batch_is_refused_and_only_the_socket_takes_one(rig: Rig) -> None:
    assert rig.request("POST", "/internal/v1/usage", {"not": "a batch"})[0] in (400, 404)
    with pytest.raises(InvalidInput, match="no batch of usage"):
        rig.client.connection.exchange("POST", "/internal/v1/usage", body=b"\x01")


def test_default_prices_are_kept_and_what_is_none_is_refused(rig: Rig, used: Connection) -> None:
    book = PriceBook((DefaultPrice(Price(input="0.15"), model="gpt-*", since="2026-11-29"),))
    set_prices(rig.client.connection, book)
    assert prices(rig.client.connection) == book
    for wrong in (DefaultPrice(Price(input="much")), DefaultPrice(Price(), since="2026-02-30")):
        with pytest.raises(InvalidInput, match="is no"):
            set_prices(rig.client.connection, PriceBook((wrong,)))
    assert prices(rig.client.connection) == book
    with pytest.raises(Forbidden):
        set_prices(used, book)
