"""Usage records one by one: each exactly once, by project and time, a page at a time, and no longer than said."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.store import usage_records
from stoker.store.engine import Database
from stoker.types.usage import Flag, Place, UsageRecord, parse_place
from tests.store.test_usage import NOW_S, database, record


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = database(tmp_path_factory.mktemp("records"))
    for batch in range(20):
        made.write(
            lambda connection, batch=batch: usage_records.keep(
                connection,
                [
                    msgspec.structs.replace(
                        record(1, NOW_S + batch * 60), request=f"{batch}-{at}", project="team" if at % 3 else "other"
                    )
                    for at in range(30)
                ],
            )
        )
    yield made
    made.close()


def everything(
    store: Database, limit: int, project: str | None = None, from_s: int = 0, to_s: int = 1 << 40
) -> list[str]:
    found: list[UsageRecord] = []
    after, pages = Place(), 0
    while True:
        page = store.read(
            lambda connection, after=after: usage_records.page(  # type: ignore[misc]
                connection, after, from_s * 1000, to_s * 1000, project, limit
            )
        )
        assert len(page.records) <= limit
        found += page.records
        after, pages = parse_place(str(page.next)), pages + 1
        assert pages < 1000
        if page.is_last:
            return [each.request for each in found]


@given(st.integers(1, 100))
def test_pages_of_any_size_have_each_record_once_and_in_order(store: Database, limit: int) -> None:
    wanted = [f"{batch}-{at}" for batch in range(20) for at in range(30)]
    assert everything(store, limit) == wanted


@given(st.integers(1, 50), st.integers(-1, 21), st.integers(0, 21), st.sampled_from(["team", "other", "nobody", None]))
def test_a_time_and_a_project_have_their_own_and_no_other(
    store: Database, limit: int, first: int, count: int, project: str | None
) -> None:
    got = everything(store, limit, project, NOW_S + first * 60, NOW_S + (first + count) * 60)
    assert got == [
        f"{batch}-{at}"
        for batch in range(max(first, 0), min(first + count, 20))
        for at in range(30)
        if project in (None, "team" if at % 3 else "other")
    ]


def test_what_comes_later_is_behind_the_last_place(tmp_path: Path) -> None:
    made = database(tmp_path)
    try:
        made.write(lambda connection: usage_records.keep(connection, [record(1)]))
        page = made.read(lambda connection: usage_records.page(connection, Place(), 0, 1 << 60, None))
        assert (len(page.records), page.is_last) == (1, True)
        made.write(
            lambda connection: usage_records.keep(connection, [record(2), record(3, flags=int(Flag.WASTED_TRY))])
        )
        later = made.read(lambda connection: usage_records.page(connection, page.next, 0, 1 << 60, None))
        assert [each.request for each in later.records] == ["req-2"]
    finally:
        made.close()


def test_what_is_old_or_too_much_goes_the_oldest_first(tmp_path: Path) -> None:
    made = database(tmp_path)
    try:
        for number in range(10):
            made.write(
                lambda connection, number=number: usage_records.keep(connection, [record(number, NOW_S + number)])  # type: ignore[misc]
            )
        before_ms = (NOW_S + 3) * 1000
        assert made.write(lambda connection: usage_records.tidy(connection, before_ms, 1 << 30)) == 3
        assert made.read(usage_records.kept_from_ms) == before_ms
        size = made.read(lambda connection: usage_records.page(connection, Place(), 0, 1 << 60, None)).records
        assert len(size) == 7
        assert made.write(lambda connection: usage_records.tidy(connection, 0, 0)) == 7
        assert made.read(usage_records.kept_from_ms) is None
    finally:
        made.close()


@pytest.mark.parametrize("text", ["x", "1", "1.x", "-1.0", "1.-2", "9" * 40 + ".0", "١.٢"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        parse_place(text)
