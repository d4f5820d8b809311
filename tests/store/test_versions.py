"""Many references at once mean what each means alone, whatever was read before."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.refs import ModelRef, parse_ref
from stoker.store import models
from stoker.store.engine import Connection, Database
from stoker.store.versions import Versions
from stoker.types.ids import ModelName
from tests.store.rows import manifest

NAMES = st.sampled_from(("m", "n"))
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("push"), NAMES, st.integers(1, 5)),
        st.tuples(st.just("alias"), NAMES, st.integers(1, 4), st.sampled_from(("prod", "next"))),
        st.tuples(st.just("remove"), NAMES, st.integers(1, 4)),
        st.tuples(st.just("undo"), NAMES, st.integers(1, 5)),
    ),
    max_size=12,
)
ASKED = [
    parse_ref(text)
    for name in ("m", "n", "nobody")
    for text in (name, *(f"{name}@{which}" for which in ("1", "2", "3", "prod", "next", f"sha256:{1:064x}")))
]


class Undone(Exception):
    """A transaction is rolled back."""


def change(connection: Connection, what: str, name: str, number: int, *alias: str) -> None:
    ref = ModelRef(ModelName(name), number=number)
    match what:
        case "push" | "undo":
            models.add(connection, ref.name, manifest(number), 1.0)
        case "alias" if models.resolve(connection, ref) is not None:
            models.set_alias(connection, name, alias[0], number)
        case "remove" if (there := models.resolve(connection, ref)) is not None:
            models.remove(connection, there)


def test_they_mean_what_each_means_alone_whatever_was_pushed_moved_removed_or_undone(database: Database) -> None:
    @settings(max_examples=40, deadline=None)
    @given(CHANGES)
    def holds(changes: list[tuple[str, str, int]]) -> None:
        kept = Versions()

        def all_mean_the_same(connection: Connection) -> None:
            digests = [each.digest for each in models.everything(connection)]
            asked = [*ASKED, *(ModelRef(ModelName("m"), digest=each) for each in digests)]
            assert kept.resolve(connection, asked) == {ref: models.resolve(connection, ref) for ref in asked}

        def play(connection: Connection) -> None:
            for each in changes:
                if each[0] == "undo":
                    with connection.begin_nested() as undone:
                        change(connection, *each)
                        all_mean_the_same(connection)
                        undone.rollback()
                else:
                    change(connection, *each)
                all_mean_the_same(connection)
            raise Undone

        with suppress(Undone):
            database.write(play)

    holds()


def test_a_version_that_was_read_is_not_read_again(database: Database) -> None:
    kept = Versions()
    made, _ = database.write(lambda each: models.add(each, ModelName("m"), manifest(), 1.0))
    ref = parse_ref("m@1")
    first = database.read(lambda each: kept.resolve(each, [ref]))[ref]
    again = database.read(lambda each: kept.resolve(each, [ref]))[ref]
    assert first == made
    assert again is first
