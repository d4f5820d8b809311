"""That a project sees its own rows of the audit and nothing of another's, by any filter."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.audit import chain, views
from stoker.store.recording import RECORDED
from stoker.types.audit import EVERY_PROJECT, OUTSIDE, Act, FieldChange, ProjectEvent, ResourceChange, Row

# What is the platform's, with the reason why no project sees it.
PLATFORMS = {
    "setting": "the platform's",
    "model": "its name may have been another project's before",
    "version": "a model's",
    "alias": "a model's",
    "signature": "a model's",
    "alerts": "of all projects in one row",
    "hold": "who is looked into is not told",
    "provider": "the platform's",
    "session": "a person's, who may be in several projects",
    "secret": "by reference, of all projects",
    "node": "the platform's",
    "nodetoken": "the platform's",
}
OTHER = "zz-other"
# Names that begin or end as the project's does, and one that contains it.
STRANGERS = (OTHER, "shop-zz", "zz-shop", "zzshop", "SHOP")


def lines(project: str) -> st.SearchStrategy[str]:
    """Return what rows of a project are about, of every kind, and paths that were asked for."""
    within = st.sampled_from([kind for kind in views.KINDS if kind != "project"])
    return st.one_of(
        st.just(f"project {project}"),
        within.map(lambda kind: f"{kind} {project}/e"),
        st.sampled_from(["trust", "notifier", "policy"]).map(lambda kind: f"{kind} {project}"),
        st.just(f"revision {project}.e-3"),
        st.just(f"projects/{project}/members/user:ann"),
    )


ALIENS = st.one_of(
    st.sampled_from(STRANGERS).flatmap(lines),
    st.sampled_from(sorted(PLATFORMS)).map(lambda kind: f"{kind} shop"),
    st.sampled_from(["", f"audit/holds/{OTHER}", "keys/zzzz/limits", "incidents/7/close", "model zz shop/e"]),
)


@st.composite
def acts(draw: Any) -> Act:
    """Draw an act of anybody about things of `shop` and of others; what no project may see has `zz` in it."""
    within = draw(st.sampled_from(["shop", EVERY_PROJECT, "", *STRANGERS]))
    named = draw(st.lists(st.one_of(lines("shop"), ALIENS), max_size=4, unique=True))
    changed = tuple(
        ResourceChange(
            each,
            "update",
            (FieldChange("x", "mine", "mine") if views.is_about(each, "shop") else FieldChange("zz", "zz", "zz"),),
        )
        for each in named
        if draw(st.booleans())
    )
    own = within == "shop"
    is_mixed = any(not views.is_about(each, "shop") and (" " in each or "projects/" in each) for each in named)
    return Act(
        1_000_000 + draw(st.integers(0, 3)),
        draw(st.sampled_from(["k1", "platform", "unknown"])) if own else draw(st.sampled_from(["zzkey", "unknown"])),
        "10.0.0.1" if own else "zz.0.0.9",
        "r1" if own else "zz-request",
        draw(st.sampled_from(["PUT /x", "DELETE /y"])),
        draw(st.sampled_from(["done", "began", "failed", "read", "refused"])),
        "zz" if is_mixed or not own else "asked to; 7 attempts before it were not written down",
        tuple(named),
        changed,
        "user:ann" if own else "user:zz",
        within,
    )


def chained(made: list[Act]) -> list[Row]:
    rows: list[Row] = []
    for each in made:
        before = rows[-1] if rows else None
        # What a change is of is in the row's resources too (store/recording.py).
        whole = msgspec.structs.replace(each, resources=tuple(dict.fromkeys(each.resources)))
        rows.append(chain.row(whole, 777_001 + len(rows), before.hash if before else chain.ROOT))
    return rows


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "actor": st.sampled_from(["zzkey", "k1", OUTSIDE, "platform", "unknown", "zz"]),
        "action": st.sampled_from(["PUT", "delete", "/x", "zz"]),
        "resource": st.sampled_from(["shop", "zz", OTHER, "endpoint", "shop/e", "SHOP/", "7"]),
    },
)


@given(st.lists(acts(), max_size=6), FILTERS)
def test_no_project_sees_anything_of_another_and_no_filter_tells_of_what_is_hidden(
    made: list[Act], asked: dict[str, str]
) -> None:
    rows = chained(made)
    seen = [(row, event) for row in rows if (event := views.shown(row, "shop")) is not None]
    for row, event in seen:
        told = msgspec.json.encode(event).decode()
        assert "zz" not in told.lower(), told
        assert "777" not in re.sub(r"[0-9a-f]{16,}", "", told), told  # no number of a row
        assert row.hash not in told
        assert "attempts before it" not in told
        assert {each.what for each in event.changes} <= {f"{each}" for each in event.resources}
    found = [event for _, event in seen if views.is_wanted(event, **asked)]
    if any("zz" in value.lower() for value in asked.values()):
        assert found == []
    assert all(isinstance(each, ProjectEvent) for each in found)


@given(st.lists(acts(), max_size=6))
def test_every_row_about_a_project_is_seen_by_it_with_all_that_is_its_own(made: list[Act]) -> None:
    for row, act in zip(chained(made), made, strict=True):
        own = tuple(each for each in act.resources if views.is_about(each, "shop"))
        event = views.shown(row, "shop")
        assert (event is None) == (not own)
        if event is not None:
            assert event.resources == own
            assert event.changes == tuple(each for each in act.changes if each.what in own)
            is_told = act.within == "shop" or (act.actor == "unknown" and act.within != EVERY_PROJECT)
            assert event.actor == (act.actor if is_told else OUTSIDE)
            assert (event.outcome, event.at_us) == (act.outcome, act.at_us)


def test_every_kind_of_row_is_a_projects_or_the_platforms() -> None:
    kinds = {kind for kind, _ in RECORDED.values()}
    assert kinds == {*views.KINDS, views.REVISION, *PLATFORMS}
    assert not {*views.KINDS, views.REVISION} & {*PLATFORMS}


@pytest.mark.parametrize(
    ("line", "is_own"),
    [
        ("endpoint shop/e", True), ("project shop", True), ("revision shop.e-1", True), ("projects/shop/quota", True),
        ("endpoint shop-b/e", False), ("project shop-b", False), ("revision shop-b.e-1", False),
        ("projects/shop-b/quota", False), ("projects/shop", False), ("hold shop", False), ("model shop", False),
        ("version shop/1", False), ("endpoint b/shop", False), ("", False), ("endpoint Shop/e", False),
    ],
)  # fmt: skip
def test_only_what_lies_in_the_project_is_about_it(line: str, is_own: bool) -> None:
    assert views.is_about(line, "shop") == is_own


def test_what_a_stranger_typed_is_no_command_to_a_terminal() -> None:
    act = Act(1, "unknown", "10.9.9.9", "r", "GET /x", "refused", "no key", ("endpoint shop/\x1b[2J",))
    (row,) = chained([act])
    event = views.shown(row, "shop")
    assert event is not None
    assert event.resources == ("endpoint shop/?[2J",)
    assert (event.actor, event.origin, event.because) == ("unknown", "", "")


def test_a_receipt_is_of_the_rows_hash_and_does_not_tell_it() -> None:
    (row,) = chained([Act(5, "k1", "h", "r", "PUT /x", "done", resources=("project shop",), within="shop")])
    event = views.shown(row, "shop")
    assert event is not None
    assert event.receipt == views.receipt(row.hash) != row.hash
    assert event.row == f"5-{event.receipt[:16]}"
    assert views.moment_us(event.row) == 5
    assert [views.moment_us(wrong) for wrong in ("", "5", "5-XY", "-0123456789abcdef")] == [None] * 4
