"""Costs and prices of pools through the API: who sees what, what is refused, and the export."""

import csv
import io

import pytest

from stoker.client import costs as client
from stoker.client.connection import Connection
from stoker.core.cost.focus import COLUMNS
from stoker.store import costs
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.types.costs import CostLine, MachinePrice, PoolPrices, PriceList
from stoker.types.errors import Forbidden, InvalidInput, NotFound
from tests.control.rig import Rig

HOUR_S = 1_800_000_000
LINES = (
    CostLine("requests", "default", 70, 7_000, "team", "default", "chat", "default.chat-1", "k1", (("run", "7"),)),
    CostLine("idle", "default", 30, 3_000, "default", "default", "chat", "default.chat-1"),
    CostLine("unallocated", "default", 900, 90_000),
)
SPAN = {"from_": str(HOUR_S), "to": str(HOUR_S + 3600)}


@pytest.fixture(scope="module")
def reader(rig: Rig) -> Connection:
    """Lines of one hour; returns a way in with a key of project team, which is no admin's."""
    rig.client.apply(b"{apiVersion: stoker/v1, kind: Project, metadata: {name: team}}")
    database = Database(open_engine(sqlite_url(rig.home.database)))
    database.write(lambda connection: costs.close(connection, HOUR_S, LINES))
    database.close()
    key = rig.client.create_key("team", "reader", admin=False, expires_in_s=None).key
    return Connection(f"unix:{rig.home.run / 'control-api.sock'}", key)


def found(connection: Connection, by: str, **more: str) -> dict[tuple[str, ...], int]:
    report = client.costs(connection, by=by, **{**SPAN, **more})
    return {tuple(row.by.values()): row.nano_usd for row in report.items}


def test_an_admin_sees_everything_and_others_what_they_pay_and_serve(rig: Rig, reader: Connection) -> None:
    admin = rig.client.connection
    assert found(admin, "kind") == {("requests",): 70, ("idle",): 30, ("unallocated",): 900}
    assert found(admin, "payer,tag:run,hour") == {
        ("team", "7", "2027-01-15T08:00Z"): 70,
        ("default", "", "2027-01-15T08:00Z"): 30,
        ("", "", "2027-01-15T08:00Z"): 900,
    }
    assert found(admin, "kind", project="default") == {("requests",): 70, ("idle",): 30}
    assert found(reader, "kind") == {("requests",): 70}
    with pytest.raises(NotFound):
        found(reader, "kind", project="default")
    with pytest.raises(Forbidden):
        client.set_prices(reader, PriceList())


def test_a_name_or_a_moment_that_is_none_is_named(rig: Rig) -> None:
    for wrong in ({"by": "colour"}, {"from_": "yesterday"}):
        with pytest.raises(InvalidInput, match=r"colour|yesterday"):
            found(rig.client.connection, **{"by": "kind", **wrong})


def test_the_export_has_a_header_and_the_lines_that_one_sees(rig: Rig, reader: Connection) -> None:
    for connection, count in ((rig.client.connection, 3), (reader, 1)):
        text = b"".join(client.focus(connection, **SPAN)).decode()
        rows = list(csv.reader(io.StringIO(text)))
        assert tuple(rows[0]) == COLUMNS
        assert len(rows) == 1 + count


def test_prices_are_kept_and_what_cannot_be_read_is_refused(rig: Rig) -> None:
    admin = rig.client.connection
    paid = PriceList((PoolPrices((MachinePrice(node_hour="0.40"),), "gpu"),))
    client.set_prices(admin, paid)
    assert client.prices(admin) == paid
    for wrong in (
        PoolPrices((MachinePrice(node_hour="a lot"),)),
        PoolPrices((MachinePrice("2026-02-30"),)),
    ):
        with pytest.raises(InvalidInput, match=r"a lot|2026-02-30"):
            client.set_prices(admin, PriceList((wrong,)))
    with pytest.raises(InvalidInput, match="'gpu'"):
        client.set_prices(admin, PriceList((*paid.pools, *paid.pools)))
    assert client.prices(admin) == paid
