"""Which revisions of an endpoint run now, how many replicas of each, and who gets the traffic.

Without a rollout: the revision that the spec asks for, alone. It begins when the spec asks for another one than the one
that serves. One that was taken back is not begun again by itself: what serves goes on until the spec asks for something
else, or somebody says `stoker rollouts retry`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from stoker.core.conditions import crash_message, is_crash_looping
from stoker.core.gate import law
from stoker.core.gate.law import DossierState
from stoker.core.rollout import course, decide
from stoker.core.rollout.decide import Sight, Turn
from stoker.core.rollout.room import Room
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.core.world import World
from stoker.types.faults import BAD_REVISION

REJECTED = ("rolled-back", "refused")
GROWING = (
    "gating",
    "awaiting",
    "scaling",
    "stepping",
    "paused",
    "reported",
)  # phases in which the baseline follows the load


class Release(msgspec.Struct, frozen=True):
    """What an endpoint runs.

    revision: the one that is meant to serve in the end. counts: replicas by revision; those of others are drained.
    grows: revisions of which missing replicas are started. serving: who gets the traffic from now on, with why; None:
    as before. rollout: the one that runs, changed or new, with what is new in its timeline.
    """

    revision: Revision
    counts: Mapping[str, int]
    grows: tuple[str, ...]
    serving: tuple[str, str] | None = None
    rollout: RolloutState | None = None
    is_new: bool = False
    entries: tuple[Entry, ...] = ()
    ended: Turn | None = None  # the end of another one, that this one took the place of
    rejected: RolloutState | None = None  # why `revision` is not what the spec asks for
    again_s: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a new revision has yet to have its first replicas, or may have none yet."""
        return self.rollout is not None and self.rollout.phase in ("gating", "awaiting", "scaling")

    def clears(self, revision: str) -> bool:
        """Whether replicas of `revision` go though it has the traffic: there is no room for both."""
        rollout = self.rollout
        return (
            rollout is not None
            and rollout.baseline == revision
            and course.course(rollout.spec, rollout.strategy).clears
        )

    def why_gone(self, revision: str) -> str:
        """Return why nothing of `revision` is wanted."""
        if self.rejected is not None and self.rejected.canary == revision:
            return f"{revision} was taken back: {self.rejected.because}"
        if self.clears(revision):
            return f"it makes room for {self.revision.revision}"
        return f"{self.revision.revision} took the place of {revision}"


class Scene(msgspec.Struct, frozen=True):
    """An endpoint with its replicas, as one plan sees it.

    target: the revision that the spec asks for. wanted, usual: see decide.Sight. counted: its replicas that should
    run and are counted on. called: replicas that the load calls for, 0 where it does not scale; least:
    those of the manifest. blocked: why the last one had no room. room: what there is for `target`.
    """

    endpoint: EndpointState
    target: Revision
    revisions: Sequence[Revision]
    mine: Sequence[Assignment]
    counted: Sequence[Assignment]
    wanted: int
    usual: int
    called: int = 0
    least: int = 0
    blocked: str = ""
    room: Room = Room()


def release(world: World, scene: Scene) -> Release:
    """Return what runs from now on."""
    endpoint, target = scene.endpoint, scene.target
    newest = world.rollouts.get(endpoint.key)
    running = newest if newest is not None and not newest.is_ended else None
    if not endpoint.serving:
        return _first(world, scene)
    if running is not None and running.canary == target.revision:
        return _advance(world, scene, running)
    ended = None
    if running is not None:
        ended = end(world, endpoint, f"the endpoint asks for {target.revision} now")
    if target.revision == endpoint.serving:
        found = Release(target, {target.revision: scene.wanted}, (target.revision,))
    elif newest is not None and newest.canary == target.revision and newest.phase in REJECTED:
        serving = next((each for each in scene.revisions if each.revision == endpoint.serving), target)
        return Release(serving, {serving.revision: scene.wanted}, (serving.revision,), rejected=newest)
    else:
        found = _advance(world, scene, _begun(world, scene), is_new=True)
    return found if ended is None else msgspec.structs.replace(found, ended=ended)


def end(world: World, endpoint: EndpointState, because: str) -> Turn | None:
    """Return the end of the endpoint's rollout, if one runs."""
    running = world.rollouts.get(endpoint.key)
    if running is None or running.is_ended:
        return None
    return decide.turn(running, Sight(wanted=0, usual=0, gone=because), world.now_s)


def _first(world: World, scene: Scene) -> Release:
    """Return what runs while nothing serves: there is nobody to compare with, and nothing to return to.

    Gateways send to a first replica from the moment it is ready. What is asked for before this is written down
    is a rollout from there, and does not take its place unseen.
    """
    name = scene.target.revision
    ready = _ready(world, scene, name)
    answers = _answers(world, scene) if not ready else None
    if answers is not None:
        why = f"a replica of {answers.revision} was ready before {name} was asked for"
        return Release(
            answers, {answers.revision: scene.wanted}, (answers.revision,), (answers.revision, why), again_s=0.0
        )
    dossier = _dossier(world, scene, name)
    if dossier.state != "complete":
        return Release(scene.target, {name: min(1, scene.wanted)}, (name,))
    serving = None
    if ready >= scene.usual:
        serving = (name, f"all {scene.usual} wanted replicas of {name} are ready")
    elif ready:
        serving = (name, f"{ready} of {scene.usual} replicas of {name} are ready, and nothing served before")
    return Release(scene.target, {name: scene.wanted}, (name,), serving)


def _answers(world: World, scene: Scene) -> Revision | None:
    """Return the newest revision beside the target that requests are sent to, though it was never said to serve."""
    ready = (
        each
        for each in scene.revisions
        if each.revision != scene.target.revision
        and _ready(world, scene, each.revision)
        and _dossier(world, scene, each.revision).state == "complete"
    )
    return max(ready, key=lambda each: each.number, default=None)


def _begun(world: World, scene: Scene) -> RolloutState:
    endpoint, spec = scene.endpoint, scene.endpoint.resource.spec
    serves = bool(_ready(world, scene, endpoint.serving)) or not _is_out(world, scene, endpoint.serving)
    rate_per_s = world.snapshot.rates.get(endpoint.key, 0.0)
    strategy, because = course.resolve(spec.rollout, rate_per_s, serves=serves and bool(scene.wanted))
    is_staged = BAD_REVISION in scene.target.config.env
    if is_staged:
        strategy, because = "direct", "a game day gives its bad revision all of the traffic"
    is_return = _is_return(world, scene)
    if is_return:
        strategy, because = "direct", "it served before what serves now: there are no steps on the way back"
    return RolloutState(
        project=endpoint.project,
        endpoint=endpoint.name,
        baseline=endpoint.serving,
        canary=scene.target.revision,
        spec=spec.rollout,
        strategy=strategy,
        phase="gating",
        because=because,
        began_s=world.now_s,
        since_s=world.now_s,
        slow_s=course.slow_s(spec.rollout, spec.slos),
        baseline_count=sum(each.revision == endpoint.serving for each in scene.counted),
        is_return=is_return,
        holds=any(each.holds for each in spec.rollout.hooks) and not is_return and not is_staged,
    )


def _is_return(world: World, scene: Scene) -> bool:
    """Return whether the spec asks for a revision that is older than the one that serves, and served once.

    Whoever applies the manifest of yesterday is in the same hurry as whoever says `stoker rollback`.
    """
    serving = world.revisions.get(scene.endpoint.serving)
    if serving is None or scene.target.number >= serving.number:
        return False
    return _dossier(world, scene, scene.target.revision).has_served


def _advance(world: World, scene: Scene, state: RolloutState, *, is_new: bool = False) -> Release:
    turn = decide.turn(state, _sight(world, scene, state), world.now_s)
    after = turn.state
    entries = turn.entries
    if is_new:
        entries = (Entry(world.now_s, "began", "gating", state.because), *entries)
    serving = _serving(scene, after, turn.entries)
    if after.phase in REJECTED:
        revision = next((each for each in scene.revisions if each.revision == after.baseline), scene.target)
        counts = {after.baseline: scene.wanted}
        return Release(
            revision, counts, (after.baseline,), serving, after, is_new, entries, rejected=after, again_s=turn.again_s
        )
    canary, baseline = decide.wants(after, scene.wanted)
    grows: tuple[str, ...] = (after.baseline,) if after.phase == "returning" else (after.canary,)
    if scene.called > max(baseline, scene.least) and baseline and after.phase in GROWING and not scene.blocked:
        baseline, grows = scene.called, (*grows, after.baseline)  # the load that has grown is still its own
    if _is_down(world, scene, after):
        serves_first = after.phase != "scaling"  # else it is the canary that is waited for
        baseline = scene.wanted
        grows = (after.baseline, after.canary) if serves_first else (after.canary, after.baseline)
        after = msgspec.structs.replace(after, baseline_count=baseline)  # it stays when the canary finds room
    counts = {after.canary: canary, after.baseline: baseline}
    return Release(scene.target, counts, grows, serving, after, is_new, entries, again_s=turn.again_s)


def _is_down(world: World, scene: Scene, state: RolloutState) -> bool:
    """Return whether what serves must wake: it is asked for, nothing runs, and the canary cannot, or may not, serve."""
    if state.phase not in GROWING or course.course(state.spec, state.strategy).clears or not scene.room.asked:
        return False
    if _ready(world, scene, state.canary) or any(each.revision == state.baseline for each in scene.mine):
        return False
    may_not = state.phase in ("gating", "awaiting", "reported")
    return may_not or bool(scene.room.beside or _crash(world, scene, state.canary))


def _serving(scene: Scene, after: RolloutState, entries: Sequence[Entry]) -> tuple[str, str] | None:
    """Return who gets all of the traffic from now on, if that changes."""
    takes_all = after.phase in ("keeping", "promoted")
    wanted = after.canary if takes_all else after.baseline if after.phase == "rolled-back" else ""
    if not wanted or wanted == scene.endpoint.serving:
        return None
    last = "arrived" if takes_all else ""
    because = next((each.because for each in reversed(entries) if each.event == last), after.because)
    return wanted, because


def _sight(world: World, scene: Scene, state: RolloutState) -> Sight:
    left = [each for each in scene.mine if each.revision == state.baseline]
    return Sight(
        wanted=scene.wanted,
        usual=scene.usual,
        canary_ready=_ready(world, scene, state.canary),
        baseline_ready=_ready(world, scene, state.baseline),
        baseline_left=len(left) if all(world.is_seen(each) for each in left) else None,
        baseline_is_out=_is_out(world, scene, state.baseline),
        serves_canary=scene.endpoint.serving == state.canary,
        crash=_crash(world, scene, state.canary),
        blocked=scene.blocked,
        room=scene.room,
        dossier=_dossier(world, scene, state.canary),
        order=world.snapshot.orders.get(state.number),
        words=world.snapshot.words.get(state.number, ""),
        gateways=world.snapshot.readings.get(state.number, {}),
        posted=world.snapshot.posted.get(state.number, {}),
    )


def _dossier(world: World, scene: Scene, revision: str) -> DossierState:
    """Return how a revision stands with its gates; one that this turn makes has yet to begin with them."""
    found = world.snapshot.dossiers.get(revision)
    if found is None and revision not in world.revisions and law.has_any(scene.endpoint.resource.spec.gates):
        return law.BEGINS
    return found if found is not None else DossierState()


def _ready(world: World, scene: Scene, revision: str) -> int:
    return sum(each.revision == revision and world.is_ready(each) for each in scene.counted)


def _is_out(world: World, scene: Scene, revision: str) -> bool:
    """Return whether every replica of `revision` was seen, and none is ready."""
    old = [each for each in scene.mine if each.revision == revision and each.phase == "wanted"]
    return all(world.is_seen(each) and not world.is_ready(each) for each in old)


def _crash(world: World, scene: Scene, revision: str) -> str:
    for each in scene.mine:
        process = world.process(each)
        if each.revision != revision or each.phase != "wanted" or process is None:
            continue
        if is_crash_looping(process) or (process.killed_for == "memory" and process.crashes_in_row):
            return crash_message(process)
    return ""
