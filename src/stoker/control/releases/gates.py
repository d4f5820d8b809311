"""All gates of one revision, in order: what costs nothing, what needs a replica, and the project's policies last.

A gate that fails does not hide what else is wrong, but what takes requests is left out once the dossier is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from stoker.blob.port import BlobStore
from stoker.control.compare import Comparer
from stoker.control.releases import golden, kept, likeness, profile, swap
from stoker.control.releases.ask import POLL_S, Answer, Fleet
from stoker.control.releases.golden import Heard
from stoker.control.releases.needs import Need
from stoker.control.releases.swap import Serving
from stoker.core import mapping
from stoker.core.gate import law, schema
from stoker.core.gate.likeness import is_asked
from stoker.core.snapshot import Revision
from stoker.core.trust import standing
from stoker.observe.samples import SampleStore
from stoker.protocol import signing
from stoker.types.errors import NotFound, ReplicaLost, SignatureRefused, TooLarge
from stoker.types.ids import Digest
from stoker.types.models import ModelVersion, VersionManifest
from stoker.types.releases import GOLDEN_FILE, Dossier, GateKind, GateResult, ProfileGate

TRIES: Final = 3  # of a gate whose replica goes meanwhile


class Said(msgspec.Struct, frozen=True):
    """What policies say of a dossier: how many rules looked at it, what denies it, and what is only remarked."""

    rules: int = 0
    denied: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


Policies = Callable[[Need, Dossier], Awaitable[Said]]
Told = Callable[[tuple[GateResult, ...], bool], Awaitable[None]]
_Measure = Callable[[Heard], Awaitable[GateResult]]


class Step(NamedTuple):
    """A gate that takes a while. about: of several of a kind, which."""

    kind: GateKind
    about: str
    measure: _Measure
    takes_replica: bool = True


class Examples(msgspec.Struct, frozen=True):
    """Whose examples, and where they lie."""

    about: str
    digest: Digest


class Gates:
    """Judges revisions, one gate after the other."""

    def __init__(
        self,
        blobs: BlobStore,
        fleet: Fleet,
        comparer: Comparer,
        samples: SampleStore,
        notes: Path,
        policies: Policies | None = None,
    ) -> None:
        self._blobs = blobs
        self._comparer = comparer
        self._fleet = fleet
        self._samples = samples
        self._notes = notes
        self._policies = policies

    async def judge(self, need: Need, told: Told) -> Dossier:
        """Return the decided dossier, waiting for a replica to be ready where one is needed; `told` of each result.

        `told` also hears, with a second True, that what serves may go now for the rest.
        """
        results: list[GateResult] = [self._signature(need), self._schema(need)]
        steps = self._steps(need)
        if need.recreates and any(each.takes_replica for each in steps):
            need = await self._swapped(need, steps, results, told)
        else:
            await self._each(need, steps, results, told)
        if need.gates.policy == "on" and self._policies is not None:
            results.append(await self._policy(need, self._policies, results))
        state, because = law.outcome(results)
        return msgspec.structs.replace(need.dossier(), state=state, because=because, results=tuple(results))

    def tidy(self, needs: Iterable[Need]) -> None:
        """Drop what was noted for judgements that are not among `needs`; blocks."""
        swap.tidy(self._notes, needs)

    async def _each(self, need: Need, steps: Sequence[Step], results: list[GateResult], told: Told) -> None:
        """Append what each step finds, in order; what comes after a gate that is not passed is left out."""
        for at, step in enumerate(steps):
            if any(each.state == "failed" for each in results):
                results.append(GateResult(step.kind, "skipped", "a gate before it was not passed", step.about))
                continue
            results.append(await self._measured(need, step, (*results, *_pending(steps[at:], "waits")), told))

    async def _swapped(self, need: Need, steps: Sequence[Step], results: list[GateResult], told: Told) -> Need:
        """Append what the steps find where both revisions are never there at once; return whether one had to go.

        What needs no replica comes first, then what serves is asked; only then it goes.
        """
        await self._each(need, [each for each in steps if not each.takes_replica], results, told)
        rest = [each for each in steps if each.takes_replica]
        if any(each.state == "failed" for each in results):
            await self._each(need, rest, results, told)
            return need
        waiting = _pending(rest, f"{_parent(need)} is asked before it goes")
        await told((*results, *waiting), False)
        before = await self._before(need)
        if isinstance(before, GateResult):
            results.append(before)
            return need
        waiting = _pending(rest, f"waits until {_parent(need)} has made room")
        await told((*results, *waiting), True)
        steps = [each for each in self._steps(need, before) if each.takes_replica]
        await self._each(need, steps, results, told)
        return msgspec.structs.replace(need, swapped=True)

    async def _before(self, need: Need) -> Serving | GateResult:
        """Return what the serving revision says before it goes, written down; or why nothing can be compared."""
        held = _asked(need)
        kind: GateKind = "golden" if held else "profile"
        about = held[0].about if held else ""
        found = await asyncio.to_thread(swap.read, self._notes, need)
        if found is not None:
            return found
        if need.swapped:
            return GateResult(
                kind,
                "failed",
                f"what {_parent(need)} said before it went is lost; `stoker rollouts retry` asks anew",
                about,
            )
        answers: dict[str, dict[int, Answer]] = {}
        data = b""
        try:
            for each in held:
                data = await asyncio.to_thread(self._read, each)
                if wrong := golden.unasked(need, data):
                    return GateResult(kind, "failed", wrong, each.about)
                answers[each.about] = await golden.asked(need, data, self._fleet)
            said = Serving(answers)
            if need.gates.profile is not None and need.parent is not None:
                bodies = await self._bodies(need, held)
                parent = need.parent.revision
                rounds, bodies = await profile.alone(parent, need.gates.profile, bodies, self._fleet)
                said = Serving(answers, bodies, rounds)
            await asyncio.to_thread(swap.write, self._notes, need, said)
        except (NotFound, TooLarge, OSError) as wrong:
            return GateResult(kind, "failed", f"what serves cannot be asked before it goes: {wrong}", about)
        return said

    def _signature(self, need: Need) -> GateResult:
        files, signed = need.version.manifest.files, need.signed
        if signed.trust.policy == "off" or not files:
            return GateResult("signature", "skipped", "the project demands no signatures")
        finding = standing([signing.examine(text, files, signed.trust.roots) for text in signed.bundles])
        try:
            said = signing.demand(need.version.ref, files, signed)
        except SignatureRefused as refused:
            return GateResult("signature", "failed", refused.message)
        return GateResult("signature", "passed", said or f"signed by {finding.signer}")

    def _schema(self, need: Need) -> GateResult:
        config, parent = need.revision.config, need.parent
        said = mapping.words(config.mapping) if config.mapping is not None else ""
        way = f", by spec.mapping: {said}" if said else ""
        if need.gates.schema == "off":
            return GateResult("schema", "skipped", f"spec.gates.schema is off{way}")
        if parent is None or need.parent_version is None:
            return GateResult("schema", "skipped", f"nothing serves that clients know{way}")
        old, new = _shown(parent, need.parent_version), _shown(need.revision, need.version)
        found = schema.breaches(old, new, parent.config.task, config.task)
        beside = parent.config.ref
        if not found:
            return GateResult("schema", "passed", f"clients of {beside} can go on{way}")
        begins = "mend spec.mapping" if way else "say in spec.mapping what becomes of their tensors"
        advice = f"{begins}, deploy it as a new endpoint, or set spec.gates.schema to off"
        because = f"clients of {beside} cannot go on: {'; '.join(found)}; {advice}"
        return GateResult("schema", "failed", f"{because}; the mapping: {said}" if way else because)

    def _steps(self, need: Need, before: Serving | None = None) -> list[Step]:
        """Return the gates that take a while, in order. before: what the serving revision said, where it has gone."""
        held = _held(need)
        steps = []
        if is_asked(need.gates.likeness, need.version.manifest):
            steps.append(Step("likeness", "", self._likeness_of(need), takes_replica=False))
        asks = need.gates.golden.metric != "perplexity"  # which is read on control's machine
        steps += [Step("golden", each.about, self._golden_of(need, each, before), takes_replica=asks) for each in held]
        wanted = need.gates.golden.set
        if not held and wanted in ("version", "endpoint"):
            steps.append(Step("golden", wanted, self._missing(wanted), takes_replica=False))
        if need.gates.profile is not None:
            steps.append(Step("profile", "", self._profile_of(need, need.gates.profile, before)))
        return steps

    def _missing(self, which: str) -> _Measure:
        how = "stoker push … --golden FILE" if which == "version" else "stoker golden set ENDPOINT FILE"

        async def measure(_: Heard) -> GateResult:
            return GateResult("golden", "failed", f"the {which} has no examples, which the spec demands ({how})", which)

        return measure

    def _likeness_of(self, need: Need) -> _Measure:
        async def measure(_: Heard) -> GateResult:
            held = _all_examples(need)[-1:]  # the endpoint's, else the version's
            try:
                data = await asyncio.to_thread(self._read, held[0]) if held else None
            except (NotFound, OSError) as gone:
                return GateResult("likeness", "failed", f"its examples cannot be read: {gone}")
            return await likeness.judge(need, self._comparer, data)

        return measure

    def _golden_of(self, need: Need, held: Examples, before: Serving | None) -> _Measure:
        noted = None if before is None else before.answers.get(held.about, {})

        async def measure(heard: Heard) -> GateResult:
            try:
                data = await asyncio.to_thread(self._read, held)
            except (NotFound, OSError) as gone:
                return GateResult("golden", "failed", f"its examples cannot be read: {gone}", held.about)
            if need.gates.golden.metric == "perplexity":
                return await likeness.perplexity(need, held.about, data, self._comparer)
            return await golden.judge(need, held.about, data, self._fleet, heard, noted)

        return measure

    def _profile_of(self, need: Need, gate: ProfileGate, before: Serving | None) -> _Measure:
        async def measure(_: Heard) -> GateResult:
            if before is not None and before.bodies is not None:
                sides = profile.Sides(need.revision.revision, noted=before.rounds)
                return await profile.judge(sides, gate, before.bodies, self._fleet)
            sides = profile.Sides(need.revision.revision, None if need.parent is None else need.parent.revision)
            return await profile.judge(sides, gate, await self._bodies(need, _held(need)), self._fleet)

        return measure

    async def _bodies(self, need: Need, held: Sequence[Examples]) -> profile.Bodies:
        """Return what both are timed with. Raises NotFound, OSError."""
        samples = await kept.newest(self._samples, need.state.project, need.state.name, profile.SAMPLES_MAX)
        data = await asyncio.to_thread(self._read, held[0]) if held else b""
        return profile.chosen(need, samples, data)

    async def _measured(self, need: Need, step: Step, so_far: tuple[GateResult, ...], told: Told) -> GateResult:
        """Return what a gate finds, once a replica is ready; anew while its replica goes, at most TRIES times."""
        at = next(at for at, each in enumerate(so_far) if each.state == "pending")
        why = ""

        async def heard(numbers: dict[str, float]) -> None:
            await told(_with(so_far, at, "runs", numbers), False)

        for _ in range(TRIES):
            if step.takes_replica:
                await told(_with(so_far, at, f"waits for a replica of {need.revision.revision}"), False)
                await self._fleet.until_ready(need.revision.revision)
            await heard({})
            try:
                return await step.measure(heard)
            except ReplicaLost as gone:
                why = gone.message
                await asyncio.sleep(POLL_S)
        because = f"its replica went {TRIES} times while it was looked at: {why}"
        return GateResult(step.kind, "failed", because, step.about)

    async def _policy(self, need: Need, policies: Policies, results: list[GateResult]) -> GateResult:
        state, because = law.outcome(results)
        dossier = msgspec.structs.replace(need.dossier(), state=state, because=because, results=tuple(results))
        said = await policies(need, dossier)
        if not said.rules:
            return GateResult("policy", "skipped", "no policy looks at releases here")
        if said.denied:
            return GateResult("policy", "failed", "; ".join(said.denied))
        return GateResult("policy", "passed", "; ".join(said.remarks) or f"none of {said.rules} rules objects")

    def _read(self, held: Examples) -> bytes:
        """Return examples as they were set; blocks. Raises NotFound where they are gone, or not the same any more."""
        if self._blobs.has(held.digest) and self._blobs.verify(
            held.digest
        ):  # what is damaged goes, so that it can come
            return self._blobs.path(held.digest).read_bytes()
        again = "push the version" if held.about == "version" else "`stoker golden set` them"
        raise NotFound(f"the platform's copy of {held.digest} is lost or damaged; {again} once more")


def _all_examples(need: Need) -> list[Examples]:
    """Return the examples that are there: the version's, then the endpoint's."""
    own = next((each for each in need.version.manifest.files if each.path == GOLDEN_FILE), None)
    found = [Examples("version", own.digest)] if own is not None else []
    return [*found, *([Examples("endpoint", need.golden.digest)] if need.golden is not None else [])]


def _held(need: Need) -> list[Examples]:
    """Return the examples that the spec wants asked."""
    return [each for each in _all_examples(need) if need.gates.golden.set in ("auto", each.about)]


def _asked(need: Need) -> list[Examples]:
    """Return those of them that a replica answers."""
    return _held(need) if need.gates.golden.metric != "perplexity" else []


def _shown(revision: Revision, version: ModelVersion) -> VersionManifest:
    """Return a version as clients see it."""
    signature = revision.config.seen(version.manifest.signature)
    return msgspec.structs.replace(version.manifest, signature=signature)


def _parent(need: Need) -> str:
    return need.parent.revision if need.parent is not None else "nothing"


def _pending(steps: Sequence[Step], because: str) -> tuple[GateResult, ...]:
    return tuple(GateResult(each.kind, "pending", because, each.about) for each in steps)


def _with(
    results: tuple[GateResult, ...], at: int, because: str, numbers: dict[str, float] | None = None
) -> tuple[GateResult, ...]:
    changed = msgspec.structs.replace(results[at], because=because, numbers=numbers or {})
    return (*results[:at], changed, *results[at + 1 :])
