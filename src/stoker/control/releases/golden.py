"""Examples with known answers, asked of a replica of the new revision and of one that serves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from stoker.control.releases.ask import Answer, Fleet, ask
from stoker.control.releases.needs import Need
from stoker.core.gate import answers, golden, metrics
from stoker.core.gate.answers import Odd
from stoker.core.gate.golden import BadGolden, Example
from stoker.core.gate.metrics import Scored
from stoker.types.errors import Draining, ReplicaLost
from stoker.types.releases import GateResult, Metric

SWAP_SECONDS_MAX: Final = 60.0  # while requests wait
AT_ONCE: Final = 4  # to the new replica, which has nothing else to do; the serving one gets one at a time
SAID_EVERY_S: Final = 2.0
SECONDS_MAX: Final = 600.0  # then what was answered until then is judged
_COUNTED: Final = ("accuracy", "f1", "exact")

Heard = Callable[[dict[str, float]], Awaitable[None]]  # of numbers, while a gate runs


class Said(NamedTuple):
    """What both said to one example; `old` None where the serving revision was not asked or did not answer."""

    example: Example
    new: Answer
    old: Answer | None


async def judge(
    need: Need, about: str, data: bytes, fleet: Fleet, heard: Heard, noted: Mapping[int, Answer] | None = None
) -> GateResult:
    """Return how the new revision does on the examples in `data`, `about` being whose they are. Raises ReplicaLost.

    heard: told how many it has answered, every SAID_EVERY_S.
    noted: what the serving one answered before it went; None while it is there to be asked.
    """
    began_s = time.perf_counter()

    def result(is_passed: bool, because: str, numbers: dict[str, float] | None = None) -> GateResult:
        seconds = time.perf_counter() - began_s
        return GateResult("golden", "passed" if is_passed else "failed", because, about, numbers or {}, seconds)

    if wrong := unasked(need, data):
        return result(False, wrong)
    examples, task, gate = golden.read(data), need.revision.config.task, need.gates.golden
    metric: Metric = gate.metric or answers.usual_metric(task, _expectations(examples, gate.output))
    is_alone = task == "embed" and any(each.expected is None for each in examples)
    seconds_max = SECONDS_MAX if noted is None else SWAP_SECONDS_MAX
    said = await _Round(need, examples, fleet, time.monotonic() + seconds_max).both(noted, heard)
    if is_alone and not any(each.old is not None for each in said):
        return result(True, "nothing serves that its vectors could be compared with", {"rows": float(len(said))})
    scored, failed = _scores(said, metric, gate.output, task)
    if failed and (metric not in _COUNTED or not scored):
        return result(
            False, f"{len(failed)} of {len(said)} examples have no answer that could be compared: {failed[0]}"
        )
    found = metrics.judge(metric, gate, scored, is_against_serving=is_alone)
    words = f"; {len(failed)} of them have no answer: {failed[0]}" if failed else ""
    if len(said) < len(examples):
        words += f"; only the first {len(said)} of {len(examples)} were answered within {seconds_max:g} s"
    return result(found.is_passed, found.because + words, found.numbers)


def unasked(need: Need, data: bytes) -> str:
    """Return why the examples in `data` cannot be asked at all; "" where they can."""
    try:
        examples = golden.read(data)
    except BadGolden as wrong:
        return f"the examples cannot be read: {wrong}"
    if wrong_line := golden.misfit(examples, need.revision.config.task, need.seen):
        return f"the examples do not fit it: {wrong_line}"
    if need.gates.golden.metric == "logprob":
        advice = "set spec.gates.golden.metric to perplexity, which is the same said otherwise"
        return f"logprob cannot be measured by answers, which hold no probabilities: {advice}"
    return ""


async def asked(need: Need, data: bytes, fleet: Fleet) -> dict[int, Answer]:
    """Return what the serving revision answers, by the place of each example; nothing where none of it is ready."""
    return await _Round(need, golden.read(data), fleet, time.monotonic() + SECONDS_MAX).serving()


class _Round(NamedTuple):
    """One set of examples, until when it may be asked, and of whom."""

    need: Need
    examples: Sequence[Example]
    fleet: Fleet
    end_s: float

    async def both(self, noted: Mapping[int, Answer] | None, heard: Heard) -> list[Said]:
        """Ask both; what neither had time for is left out. Raises ReplicaLost when the new one goes."""
        name = self.need.revision.revision
        mine = self.fleet.ready(name)
        if mine is None:
            raise ReplicaLost(f"no replica of {name} is ready")
        new: dict[int, Answer] = {}
        old = dict(noted or {})
        if noted is not None:
            await self._all(mine.name, new, AT_ONCE, heard)
        else:
            serving = asyncio.create_task(self.serving())
            try:
                await self._all(mine.name, new, AT_ONCE, heard)
                old = await serving
            finally:
                serving.cancel()
        return [Said(each, new[at], old.get(at)) for at, each in enumerate(self.examples) if at in new]

    async def serving(self) -> dict[int, Answer]:
        """Ask the serving revision, if it is there; one that goes meanwhile has answered what it has answered."""
        found: dict[int, Answer] = {}
        parent = self.need.parent
        theirs = self.fleet.ready(parent.revision) if parent is not None else None
        if theirs is not None:
            with suppress(ReplicaLost, Draining):
                await self._all(theirs.name, found, 1)
        return found

    async def _all(self, replica: str, found: dict[int, Answer], at_once: int, heard: Heard | None = None) -> None:
        link = await self.fleet.link(replica)
        left = iter(enumerate(self.examples))
        task, signature = self.need.revision.config.task, self.need.seen

        said_s = time.monotonic()

        async def work() -> None:
            nonlocal said_s
            for at, each in left:
                if time.monotonic() > self.end_s:
                    return
                found[at] = await ask(link, *golden.request(each, task, signature))
                if heard is not None and (now_s := time.monotonic()) > said_s + SAID_EVERY_S:
                    said_s = now_s
                    await heard({"answered": float(len(found)), "examples": float(len(self.examples))})

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())
        except* (ReplicaLost, Draining) as gone:
            raise ReplicaLost(str(gone.exceptions[0])) from gone
        finally:
            link.close()


def _expectations(examples: Sequence[Example], output: str) -> list[Any]:
    found = []
    for each in examples:
        with suppress(Odd):
            found.append(answers.expected_of(each, output))
    return found


def _scores(said: Sequence[Said], metric: Metric, output: str, task: str) -> tuple[list[Scored], list[str]]:
    """Return the scores, and why some new answers have none; they count as wrong where right ones are counted."""
    scored: list[Scored] = []
    failed: list[str] = []
    for each in said:
        try:
            one, problem = _score(each, metric, output, task)
        except Odd as odd:
            failed.append(f"line {each.example.line}: {odd}")
            continue
        if problem:
            failed.append(f"line {each.example.line}: {problem}")
        if one is not None:
            scored.append(one)
    return scored, failed


def _score(said: Said, metric: Metric, output: str, task: str) -> tuple[Scored | None, str]:
    """Return what both are worth on one example, None where it says nothing; and what is wrong with the new answer.

    Raises Odd when the expectation itself cannot be compared.
    """
    example, new, old = said
    which = answers.output_of(example, output)
    theirs, _ = _value(old, task, which) if old is not None else (None, "")
    expected = theirs if example.expected is None else answers.expected_of(example, output)
    if expected is None:
        return None, ""  # the serving revision did not answer
    answers.score(metric, expected, expected)
    mine, problem = _value(new, task, which)
    here = 0.0
    if not problem:
        try:
            here = answers.score(metric, expected, mine)
        except Odd as odd:
            problem = str(odd)
    there = None
    if theirs is not None:
        with suppress(Odd):
            there = answers.score(metric, expected, theirs)
    labels = ("", "", "")
    if metric in _COUNTED:
        labels = (answers.label(expected, expected), _label(mine, expected), _label(theirs, expected))
    return Scored(example.weight, here, there, labels), problem


def _value(answer: Answer, task: str, output: str) -> tuple[Any, str]:
    """Return what an answer says, and why it says nothing."""
    if answer.problem:
        return None, answer.problem
    try:
        return answers.said(answer.value, task, output), ""
    except Odd as odd:
        return None, str(odd)


def _label(value: Any, like: Any) -> str:
    try:
        return answers.label(value, like) if value is not None else ""
    except Odd:
        return ""
