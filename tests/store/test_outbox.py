"""What hooks are told is written with what it tells of, or not at all; and it is bounded."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.rollout.hooks import hook_event, message
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.rollout.table import ENDED, EVENTS, TABLE
from stoker.store import outbox, rollouts
from stoker.store.engine import Connection, Database
from stoker.types.rollouts import HOOK_EVENTS, Hook, Rollout
from tests.store.test_rollouts import state

URL = "http://127.0.0.1:9/hook"


def hooked(*hooks: Hook) -> RolloutState:
    return msgspec.structs.replace(state(), spec=Rollout(hooks=hooks))


def entry(event: str, at_s: float = 1.0) -> Entry:
    return Entry(at_s, event, "stepping", "because")


def test_a_hook_is_told_what_it_asked_for_in_order_under_ids_of_their_own(database: Database) -> None:
    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, hooked(Hook(URL), Hook(URL + "2", events=("verdict",))), (entry("began"),))
        rollouts.keep(connection, kept, [entry(each) for each in ("released", "ready", "look", "worse", "returned")])
        letters = outbox.everything(connection)
        told = [(each.receiver, each.message.event) for each in letters]
        both = [(URL, "verdict"), (URL + "2", "verdict")]
        assert told == [(URL, "pre-release"), (URL, "step"), *both, (URL, "rolled-back")]
        assert letters[2].message.id == letters[3].message.id
        assert len({each.message.id for each in letters}) == 4
        assert all(each.message.rollout == kept.number for each in letters)
        outbox.remove(connection, [each.number for each in letters[:3]])
        assert [each.receiver for each in outbox.everything(connection)] == [URL + "2", URL]

    database.write(work)


def test_what_was_not_committed_is_not_told(database: Database) -> None:
    def work(connection: Connection) -> None:
        rollouts.keep(connection, hooked(Hook(URL)), (entry("began"),))
        raise RuntimeError("the process died here")

    with pytest.raises(RuntimeError):
        database.write(work)
    assert database.read(outbox.everything) == []
    assert database.read(rollouts.newest) == []


def test_a_receiver_that_is_gone_holds_no_more_than_its_part(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "OUTBOX_MAX", 5)

    def work(connection: Connection) -> None:
        kept = rollouts.keep(connection, hooked(Hook(URL), Hook(URL + "2", events=("promoted",))), (entry("kept"),))
        rollouts.keep(connection, kept, [entry("ready", float(at)) for at in range(20)])
        letters = outbox.everything(connection)
        assert [each.at_s for each in letters if each.receiver == URL] == [15.0, 16.0, 17.0, 18.0, 19.0]
        assert [each.at_s for each in letters if each.receiver != URL] == [1.0]

    database.write(work)


def test_every_end_of_a_rollout_is_told_but_that_of_one_which_took_no_traffic() -> None:
    for (phase, event), after in TABLE.items():
        told = hook_event(Entry(1.0, event, after, ""))
        if after in ENDED and phase not in ENDED:
            assert told == {"promoted": "promoted", "refused": "verdict"}.get(after, "rolled-back")


@given(st.sampled_from(EVENTS), st.integers(1, 10**9), st.integers(1, 10**9))
def test_the_same_entry_is_the_same_message(event: str, number: int, sequence: int) -> None:
    rollout = msgspec.structs.replace(state(), number=number)
    told = message(rollout, entry(event), sequence, ("m@1", "m@2"))
    assert told == message(rollout, entry(event), sequence, ("m@1", "m@2"))
    if told is not None:
        assert told.event in HOOK_EVENTS
        assert not set(told.id) & set(". ")
        assert told.id != getattr(message(rollout, entry(event), sequence + 1, ("", "")), "id", "")
