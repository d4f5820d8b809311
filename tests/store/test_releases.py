"""Dossiers as rows: what was decided stays, what served may serve again, and a name that comes again is another."""

import msgspec
import pytest
from sqlalchemy import text

from stoker.core.gate import law
from stoker.store import endpoints, models, projects, releases, revisions
from stoker.store.engine import Connection, Database
from stoker.store.migrations.versions.v0009_releases import THOSE_OF_BEFORE
from stoker.types.errors import NotFound
from stoker.types.ids import Digest, ModelName
from stoker.types.releases import DOSSIERS_MAX, Dossier, GateResult, Gates, GoldenSet, ReleaseState
from tests.store.rows import endpoint, manifest, project, revision

GATES = Gates()


def dossier(number: int = 1, state: ReleaseState = "pending", born_s: float = 1.0) -> Dossier:
    failed = (GateResult("schema", "failed", "x"),) if state == "refused" else ()
    whole = revision(MODEL, number=number)
    return Dossier(
        project=whole.project,
        endpoint=whole.endpoint,
        revision=whole.revision,
        born_s=born_s,
        model="m@1",
        digest=whole.config.digest,
        config_digest=whole.digest,
        parent="",
        parent_model="",
        gates=GATES,
        state=state,
        because="a test",
        results=failed,
    )


MODEL = models.ModelVersion(ModelName("m"), 1, Digest("sha256:" + "0" * 64), manifest(), 1.0, 10)


def make(connection: Connection, *numbers: int) -> None:
    if projects.find(connection, "default") is None:
        projects.put(connection, project(), 1.0)
        version, _ = models.add(connection, ModelName("m"), manifest(), 1.0)
        assert version.number == 1
    endpoints.put(connection, endpoint(), 1, 1.0)
    for number in numbers:
        revisions.add(connection, revision(MODEL, number=number))


def stands(connection: Connection, name: str = "default.a-1", gates: Gates = GATES) -> str:
    begun = releases.standing(connection).get((name, 1.0))
    return law.stands(begun.kept if begun is not None else None, gates, serves=False).state


def test_what_was_decided_is_never_written_again(database: Database) -> None:
    database.write(lambda each: make(each, 1))
    number = database.write(lambda each: releases.begin(each, dossier(), "b"))
    assert database.read(stands) == "pending"
    assert database.write(lambda each: releases.put(each, number, dossier(state="refused"), "signed"))
    assert database.read(stands) == "refused"
    for state in ("pending", "complete"):
        assert not database.write(lambda each, state=state: releases.put(each, number, dossier(state=state), "other"))
    view = database.read(lambda each: releases.get(each, "default", "a"))
    assert (view.dossier.state, view.statements) == ("refused", ("signed",))
    other = Gates(schema="off")
    assert database.read(lambda each: stands(each, gates=other)) == "pending", "judged by other gates"


def test_what_served_may_serve_again_whatever_the_gates_are(database: Database) -> None:
    database.write(lambda each: make(each, 1, 2))
    database.write(lambda each: releases.mark_served(each, "default.a-1"))  # before there was any dossier
    assert database.read(stands) == "complete"
    assert database.read(lambda each: releases.served(each, "default", "a")) == {"default.a-1"}
    assert database.read(lambda each: releases.of(each, "default", "a")) == []
    number = database.write(lambda each: releases.begin(each, dossier(2), "b"))
    database.write(lambda each: releases.put(each, number, dossier(2, "complete")))
    database.write(lambda each: releases.mark_served(each, "default.a-2"))
    strict = Gates(schema="off")
    assert database.read(lambda each: stands(each, "default.a-2", strict)) == "complete"


def test_a_revision_of_the_same_name_of_an_endpoint_that_was_deleted_inherits_nothing(database: Database) -> None:
    database.write(lambda each: make(each, 1))
    database.write(lambda each: releases.mark_served(each, "default.a-1"))
    database.write(lambda each: endpoints.mark_deleting(each, "default", "a"))
    assert database.write(lambda each: endpoints.remove(each, "default", "a"))

    def again(connection: Connection) -> None:
        endpoints.put(connection, endpoint(), 1, 5.0)
        revisions.add(connection, msgspec.structs.replace(revision(MODEL), created_at_s=5.0))

    database.write(again)
    assert ("default.a-1", 5.0) not in database.read(releases.standing)
    assert database.read(lambda each: releases.served(each, "default", "a")) == set()


def test_how_rollouts_ended_is_added_to_what_was_decided_the_newest_shown(database: Database) -> None:
    def add(verdict: str, statement: str) -> bool:
        return database.write(lambda each: releases.add_verdict(each, "default.a-1", verdict, statement))

    database.write(lambda each: make(each, 1))
    assert not add("promoted", "s")
    number = database.write(lambda each: releases.begin(each, dossier(), "b"))
    assert not add("promoted", "s"), "not decided"
    database.write(lambda each: releases.put(each, number, dossier(state="complete"), "gates"))
    assert add("rolled back", "end")
    assert add("promoted", "another end")
    view = database.read(lambda each: releases.get(each, "default", "a", "default.a-1"))
    assert (view.verdict, view.statements) == ("promoted", ("gates", "end", "another end"))
    for at in range(releases.VERDICTS_MAX):
        assert add(f"{at}", f"end {at}")
    view = database.read(lambda each: releases.get(each, "default", "a", "default.a-1"))
    assert view.statements == ("gates", *(f"end {at}" for at in range(releases.VERDICTS_MAX)))


def test_old_dossiers_go_but_not_those_of_revisions_that_are_kept(database: Database) -> None:
    database.write(lambda each: make(each, 1))
    for number in range(1, DOSSIERS_MAX + 6):
        database.write(lambda each, number=number: releases.begin(each, dossier(number), "b"))
    names = [each.dossier.revision for each in database.read(lambda each: releases.of(each, "default", "a", 1000))]
    assert len(names) == DOSSIERS_MAX + 1
    assert names[-1] == "default.a-1"


def test_examples_belong_to_an_endpoint_and_go_with_it(database: Database) -> None:
    held = GoldenSet(Digest("sha256:" + "1" * 64), 3, 100, 1.0)
    with pytest.raises(NotFound, match="no endpoint 'a'"):
        database.write(lambda each: releases.set_golden(each, "default", "a", held))
    database.write(make)
    database.write(lambda each: releases.set_golden(each, "default", "a", held))
    assert database.read(lambda each: releases.golden(each, "default", "a")) == held
    assert database.read(releases.golden_digests) == {held.digest}
    database.write(lambda each: endpoints.mark_deleting(each, "default", "a"))
    assert database.write(lambda each: endpoints.remove(each, "default", "a"))
    assert database.read(releases.golden_digests) == frozenset()


def test_revisions_of_before_there_were_gates_may_serve(database: Database) -> None:
    """The last statement of the migration, over rows as they were then."""
    database.write(lambda each: make(each, 1))
    database.write(lambda each: each.execute(text(THOSE_OF_BEFORE)))
    assert database.read(stands) == "complete"
