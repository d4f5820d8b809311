"""Receivers, and what the watch remembers, as rows."""

import msgspec
import pytest

from stoker.core import notices
from stoker.core.alerts import Signal, Silence
from stoker.core.notices import AlertMemory, Route
from stoker.core.slo import Firing, SloMemory
from stoker.store import alerts, notifiers, projects
from stoker.store.alerts import WatchMemory
from stoker.store.engine import Database
from stoker.types.errors import Conflict, NotFound
from stoker.types.notifiers import NotifierSpec
from stoker.types.resources import Metadata, Notifier, Project, ProjectMetadata

PHONE = Notifier(Metadata("phone"), NotifierSpec("webhook", url="http://127.0.0.1:9/"))


def test_what_the_watch_remembers_comes_back_whole(database: Database) -> None:
    assert database.read(alerts.load) == WatchMemory()
    signal = Signal({"alertname": "SloBurn", "project": "default", "endpoint": "digits"}, "page")
    told = notices.decide([signal], [Route("default/phone")], AlertMemory(), 5.0).memory
    silenced = notices.silence(told, Silence("1", {"endpoint": "digits"}, 99.0, "ada", "why"))
    memory = WatchMemory(silenced, {"default/digits/answers": SloMemory({"fast": Firing(3.0)}, {0: 4.0})})
    for _ in range(2):
        database.write(lambda connection: alerts.save(connection, memory))
        assert database.read(alerts.load) == memory


def test_a_receiver_is_stored_replaced_listed_and_removed_and_keeps_its_project(database: Database) -> None:
    with pytest.raises(NotFound):
        database.write(lambda connection: notifiers.put(connection, PHONE, 1.0))
    project = Project(ProjectMetadata("default"))
    database.write(lambda connection: projects.put(connection, project, 1.0))
    database.write(lambda connection: notifiers.put(connection, PHONE, 1.0))
    other = msgspec.structs.replace(PHONE, spec=NotifierSpec("slack", url_from="env:HOOK"))
    database.write(lambda connection: notifiers.put(connection, other, 2.0))
    assert database.read(notifiers.everything) == [other]
    assert database.read(lambda connection: notifiers.find(connection, "default", "phone")) == other
    with pytest.raises(Conflict, match="delete its notifier 'phone' first"):
        database.write(lambda connection: projects.remove(connection, "default"))
    database.write(lambda connection: notifiers.remove(connection, "default", "phone"))
    with pytest.raises(NotFound):
        database.write(lambda connection: notifiers.remove(connection, "default", "phone"))
