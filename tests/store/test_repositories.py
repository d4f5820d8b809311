"""What each kind of row promises."""

import msgspec
import pytest
from sqlalchemy.exc import IntegrityError

from stoker.core.refs import ModelRef, parse_ref
from stoker.store import endpoints, journal, keys, models, projects, revisions, settings, starts
from stoker.store.engine import Database
from stoker.store.journal import JOURNAL_MAX, PRUNE_EVERY, Entry
from stoker.store.keys import KeyRow
from stoker.types.errors import Conflict, NotFound
from stoker.types.ids import KeyId, ModelName, ProjectName
from stoker.types.models import manifest_digest
from stoker.types.starts import Start
from stoker.types.statuses import EndpointStatus
from tests.store.rows import assignment, endpoint, manifest, project, revision

M = ModelName("m")


@pytest.fixture(autouse=True)
def default_project(database: Database) -> None:
    database.write(lambda connection: projects.put(connection, project(), 1.0))


def key(name: str, project_name: str = "default") -> KeyRow:
    return KeyRow(KeyId(name), ProjectName(project_name), "mine", name * 8, 1.0)


def test_the_same_content_is_the_same_version_and_a_number_is_never_given_twice(database: Database) -> None:
    with database.engine.begin() as c:
        first, is_new = models.add(c, M, manifest(1), 1.0)
        again, is_new_again = models.add(c, M, manifest(1), 2.0)
        assert (is_new, is_new_again) == (True, False)
        assert first == again
        assert first.digest == manifest_digest(manifest(1))
        second, _ = models.add(c, M, manifest(2), 3.0)
        models.remove(c, second)
        third, _ = models.add(c, M, manifest(2), 4.0)
        assert (first.number, second.number, third.number) == (1, 2, 3)
        elsewhere, _ = models.add(c, ModelName("n"), manifest(1), 5.0)
        assert elsewhere.number == 1


def test_versions_are_found_by_number_digest_alias_and_as_the_newest(database: Database) -> None:
    with database.engine.begin() as c:
        first, _ = models.add(c, M, manifest(1), 1.0)
        second, _ = models.add(c, M, manifest(2), 1.0)
        models.set_alias(c, M, "prod", 1)
        for text, number in (("m", 2), ("m@1", 1), ("m@prod", 1), (f"m@{second.digest}", 2)):
            assert models.get(c, parse_ref(text)).number == number
        assert models.get(c, parse_ref("m@1")).aliases == ("prod",)
        assert [each.ref for each in models.everything(c)] == ["m@1", "m@2"]
        assert first.size_bytes == 10
        assert models.blobs_in_use(c) == {each.manifest.files[0].digest for each in (first, second)}


@pytest.mark.parametrize(
    ("text", "words"), [("x", "push it first"), ("m@9", "no version 9"), ("m@prod", "no alias 'prod'")]
)
def test_what_is_not_there_is_named(database: Database, text: str, words: str) -> None:
    with database.engine.begin() as c:
        models.add(c, M, manifest(1), 1.0)
        with pytest.raises(NotFound, match=words):
            models.get(c, parse_ref(text))


def test_an_alias_moves_and_goes_but_not_while_an_endpoint_follows_it(database: Database) -> None:
    with database.engine.begin() as c:
        models.add(c, M, manifest(1), 1.0)
        models.add(c, M, manifest(2), 1.0)
        models.set_alias(c, M, "prod", 1)
        models.set_alias(c, M, "prod", 2)
        assert models.get(c, parse_ref("m@prod")).number == 2
        with pytest.raises(NotFound):
            models.set_alias(c, M, "prod", 7)
        endpoints.put(c, endpoint("a", "m@prod"), 0, 1.0)
        with pytest.raises(Conflict, match="default/a follows m@prod"):
            models.remove_alias(c, M, "prod")
        with pytest.raises(Conflict, match="follows"):
            models.remove(c, models.get(c, parse_ref("m@2")))
        endpoints.put(c, endpoint("a", "m@1"), 0, 1.0)
        models.remove_alias(c, M, "prod")
        with pytest.raises(NotFound):
            models.remove_alias(c, M, "prod")


def test_a_version_that_a_revision_uses_stays(database: Database) -> None:
    with database.engine.begin() as c:
        version, _ = models.add(c, M, manifest(1), 1.0)
        endpoints.put(c, endpoint(), 1, 1.0)
        revisions.add(c, revision(version))
        with pytest.raises(Conflict, match=r"used by revision default\.a-1"):
            models.remove(c, version)


def test_even_without_being_asked_the_database_keeps_a_version_that_a_revision_uses(database: Database) -> None:
    with database.engine.begin() as c:
        version, _ = models.add(c, M, manifest(1), 1.0)
        endpoints.put(c, endpoint(), 1, 1.0)
        revisions.add(c, revision(version))
    with pytest.raises(IntegrityError):
        database.write(lambda c: c.exec_driver_sql("DELETE FROM versions"))


def test_each_write_of_an_endpoint_is_a_generation_and_keeps_its_birth(database: Database) -> None:
    with database.engine.begin() as c:
        assert endpoints.put(c, endpoint(), 1, 5.0).generation == 1
        second = endpoints.put(c, endpoint(model="m@2"), 0, 9.0)
        assert (second.generation, second.created_at_s, second.pinned) == (2, 5.0, 0)
        with pytest.raises(NotFound, match="no project 'x'"):
            endpoints.put(c, endpoint(project="x"), 1, 1.0)


def test_a_deleted_endpoint_takes_no_traffic_is_removed_when_asked_and_can_live_again(database: Database) -> None:
    with database.engine.begin() as c:
        endpoints.put(c, endpoint(), 1, 5.0)
        endpoints.set_serving(c, "default", "a", "default.a-1")
        endpoints.mark_deleting(c, "default", "a")
        state = endpoints.get(c, "default", "a")
        assert (state.is_deleting, state.serving) == (True, "")
        endpoints.put(c, endpoint(), 1, 6.0)
        assert not endpoints.remove(c, "default", "a")
        endpoints.mark_deleting(c, "default", "a")
        assert endpoints.remove(c, "default", "a")
        assert endpoints.find(c, "default", "a") is None
        with pytest.raises(NotFound):
            endpoints.mark_deleting(c, "default", "a")


def test_a_status_comes_back_as_it_was(database: Database) -> None:
    status = EndpointStatus(observed_generation=3, revision="default.a-1", replicas_ready=2)
    with database.engine.begin() as c:
        endpoints.put(c, endpoint(), 1, 5.0)
        endpoints.set_status(c, "default", "a", status)
        assert endpoints.get(c, "default", "a").status == status


def test_replicas_are_counted_once_and_phases_keep_their_beginning(database: Database) -> None:
    with database.engine.begin() as c:
        version, _ = models.add(c, M, manifest(1), 1.0)
        endpoints.put(c, endpoint(), 1, 1.0)
        made = revision(version)
        revisions.add(c, made)
        revisions.add(c, msgspec.structs.replace(made, created_at_s=99.0))
        place = msgspec.structs.replace(assignment(made), gpus=(0, 3))
        revisions.assign(c, place)
        revisions.assign(c, place)
        assert revisions.get(c, made.revision) == msgspec.structs.replace(made, replicas_made=1)
        assert revisions.assignments(c) == [place]
        revisions.set_phase(c, place.replica, "draining", 7.0)
        revisions.set_phase(c, place.replica, "draining", 8.0)
        (found,) = revisions.assignments(c, "default", "a")
        assert (found.phase, found.since_s) == ("draining", 7.0)
        revisions.remove(c, made.revision)
        assert revisions.everything(c), "a revision with a replica stays"
        revisions.unassign(c, place.replica)
        revisions.remove(c, made.revision)
        assert not revisions.everything(c)


def test_a_project_goes_only_when_it_is_empty(database: Database) -> None:
    with database.engine.begin() as c:
        projects.put(c, project("team"), 1.0)
        keys.add(c, key("k", "team"))
        endpoints.put(c, endpoint("a", project="team"), 1, 1.0)
        assert {row.name: row.endpoints for row in projects.everything(c)} == {"default": 0, "team": 1}
        with pytest.raises(Conflict, match="endpoint 'a'"):
            projects.remove(c, "team")
        endpoints.mark_deleting(c, "team", "a")
        endpoints.remove(c, "team", "a")
        with pytest.raises(Conflict, match="key"):
            projects.remove(c, "team")
        keys.remove(c, "k")
        projects.remove(c, "team")
        with pytest.raises(NotFound):
            projects.remove(c, "team")


def test_keys_need_their_project_and_go_for_good(database: Database) -> None:
    with database.engine.begin() as c:
        with pytest.raises(NotFound, match="no project 'x'"):
            keys.add(c, key("k", "x"))
        keys.add(c, key("k"))
        assert keys.find(c, "k") == key("k")
        assert keys.remove(c, "k") == key("k")
        assert keys.find(c, "k") is None
        with pytest.raises(NotFound):
            keys.remove(c, "k")


def test_the_journal_is_read_newest_first_and_never_grows_over_its_maximum(database: Database) -> None:
    with database.engine.begin() as c:
        for at in range(3):
            journal.add(c, Entry(float(at), "Start", "why", "default", "a" if at else "b"))
        assert [entry.at_s for entry in journal.last(c, 10)] == [2.0, 1.0, 0.0]
        assert [entry.at_s for entry in journal.last(c, 1, "default", "a")] == [2.0]
        c.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i+1 FROM n WHERE i < {JOURNAL_MAX + 500}) "
            "INSERT INTO journal SELECT i, 0, 'default', 'a', 'Start', '', '' FROM n"
        )
        for _ in range(PRUNE_EVERY):
            journal.add(c, Entry(9.0, "Start", "why"))
        assert journal.count(c) <= JOURNAL_MAX + PRUNE_EVERY


def test_settings_are_set_and_set_again(database: Database) -> None:
    with database.engine.begin() as c:
        assert settings.get(c, "x") is None
        settings.put(c, "x", "1")
        settings.put(c, "x", "2")
        assert settings.get(c, "x") == "2"


def test_a_reference_by_digest_is_of_its_own_model(database: Database) -> None:
    with database.engine.begin() as c:
        version, _ = models.add(c, M, manifest(1), 1.0)
        assert models.resolve(c, ModelRef(ModelName("n"), digest=version.digest)) is None


def test_a_start_is_told_again_with_its_first_answer_and_only_the_newest_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "STARTS_MAX", 3)
    with database.engine.begin() as c:
        for at_s in (1.1, 2.2, 3.3, 4.4):
            starts.keep(c, "default", "a", Start("a-1-x", "a-1", "onnx", at_s, {"imports": 0.5}, 1.0))
        whole = Start("a-1-x", "a-1", "onnx", 4.4, {"imports": 0.5, "first answer": 0.1}, 1.0)
        starts.keep(c, "default", "a", whole)
        starts.keep(c, "default", "b", whole)
        kept = starts.of_endpoint(c, "default", "a")
        assert [each.at_s for each in kept] == [4.4, 3.3, 2.2]
        assert kept[0] == whole
        starts.forget(c, "default", "a")
        assert (starts.of_endpoint(c, "default", "a"), starts.of_endpoint(c, "default", "b")) == ([], [whole])


def test_when_a_key_was_used_only_goes_on(database: Database) -> None:
    with database.engine.begin() as c:
        keys.add(c, key("k"))
        for at_s in (60.0, 30.0):
            keys.used(c, {"k": at_s, "gone": 1.0})
        found = keys.find(c, "k")
        assert found is not None
        assert found.last_used_at_s == 60.0
