"""Every phase of a rollout, every event, and the phase that follows. What is not in TABLE cannot happen.

gating ─released─► scaling ─ready─► stepping ─passed─► scaling … ─arrived─► keeping ─kept─► promoted
  │ │      ▲cleared    │                │ ▲
  │ │   clearing       │          pause ▼ │ resume
  │ └─refused─► refused│              paused          (a-b: stepping ─reported─► reported)
  └asked─► awaiting ─approve─► gating  │
                       └──worse, crashed, stalled, inconclusive, abort──► returning ─returned─► rolled-back
"""

from typing import Final, Literal, get_args

# gating: its dossier is not complete. awaiting: somebody outside must approve it. clearing: the old replicas go first
# (recreate). scaling: replicas for the next step load. stepping: the canary has its step's share. keeping: it has all,
# the old replicas stay warm. returning: the baseline takes the traffic back. reported: an a-b is over, and somebody
# decides.
Phase = Literal[
    "gating", "awaiting", "clearing", "scaling", "stepping", "paused", "keeping", "returning", "reported",
    "promoted", "rolled-back", "refused", "superseded",
]  # fmt: skip
Event = Literal[
    "released", "refused", "measured", "asked", "unanswered", "lapsed", "cleared", "ready", "arrived", "passed",
    "reported", "kept", "returned", "idle", "worse", "crashed", "stalled", "inconclusive", "superseded",
    "pause", "resume", "promote", "abort", "approve", "deny",
]  # fmt: skip
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
EVENTS: Final[tuple[Event, ...]] = get_args(Event)
ENDED: Final[frozenset[Phase]] = frozenset(("promoted", "rolled-back", "refused", "superseded"))
# What a person can say.
Order = Literal["pause", "resume", "promote", "abort", "approve", "deny"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)

_BACK: Final[tuple[Event, ...]] = ("worse", "crashed", "stalled", "abort")

TABLE: Final[dict[tuple[Phase, Event], Phase]] = {
    ("gating", "released"): "scaling",
    ("gating", "refused"): "refused",
    # What serves was asked, and goes, for the gates that are left need its place (recreate).
    ("gating", "measured"): "clearing",
    ("clearing", "refused"): "returning",
    ("scaling", "refused"): "returning",
    ("gating", "asked"): "awaiting",
    # Gates may have changed while somebody thought about it: what is approved is looked at once more.
    ("awaiting", "approve"): "gating",
    ("awaiting", "lapsed"): "gating",
    ("awaiting", "deny"): "refused",
    ("awaiting", "unanswered"): "refused",
    ("awaiting", "refused"): "refused",
    ("clearing", "cleared"): "scaling",
    # Nobody asks, and what serves holds the room: it goes as in a recreate.
    ("scaling", "idle"): "clearing",
    ("scaling", "ready"): "stepping",
    ("scaling", "arrived"): "keeping",
    ("stepping", "passed"): "scaling",
    ("stepping", "reported"): "reported",
    ("stepping", "inconclusive"): "returning",
    ("stepping", "promote"): "scaling",
    ("scaling", "promote"): "scaling",
    ("paused", "promote"): "scaling",
    ("reported", "promote"): "scaling",
    ("keeping", "promote"): "promoted",
    ("keeping", "kept"): "promoted",
    ("scaling", "pause"): "paused",
    ("stepping", "pause"): "paused",
    # A step that was paused begins anew: its replicas may be gone, and what was measured in it was long ago.
    ("paused", "resume"): "scaling",
    ("returning", "returned"): "rolled-back",
    **{
        (phase, event): "returning"
        for phase in ("gating", "awaiting", "clearing", "scaling", "stepping", "paused", "keeping", "reported")
        for event in _BACK
    },
    **{(phase, "superseded"): "superseded" for phase in PHASES if phase not in ENDED},
}


def after(phase: Phase, event: Event) -> Phase | None:
    """Return the phase that follows; None when `event` means nothing in `phase`."""
    return TABLE.get((phase, event))
