"""The benchmark: `python -m bench [--quick] [--only ROOM,ROOM] [--loads LOAD,LOAD] [--baselines]`; --help lists them.

Starts its own platform in a folder and on a port of its own, puts it in alternating rounds beside what a user would
write or run instead, prints a table with what must hold, and writes JSON and Markdown to bench/results/.
The exit code is 1 when a number is missed. `--only peers` and `--only gateways` compare with other servers: those are
installed into folders of their own in ~/.cache/stoker-bench the first time (some 3 GB), never into this environment.
`--only soak` takes an hour, `--only scaling` minutes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import (
    affinity,
    apifuzz,
    chat,
    drift,
    engines,
    faults,
    history,
    llm_engine,
    machine,
    migration,
    overload,
    pooling,
    predict,
    relay,
    rollouts,
    scaling,
    simulated,
    soak,
    startup,
    telemetry,
    validation,
    verdict,
)
from bench.diagnosis import room as diagnosis
from bench.peers import gateways, predictive
from bench.report import Report, Section, text, write
from bench.rounds import Effort, say
from bench.servers import Contender, Server
from bench.up import Platform
from stoker.app import demo

QUICK = Effort(rounds=1, seconds=2, streams=2, starts=1, soak_s=120)
WHOLE = Effort(rounds=5, seconds=5, streams=4, starts=3, soak_s=3600)


class Bench:
    """One run: what it measures and where its files lie."""

    def __init__(self, folder: Path, effort: Effort, *, baselines_only: bool, loads: Sequence[str]) -> None:
        self.folder = folder
        self.effort = effort
        self.baselines_only = baselines_only
        self.loads = loads
        self.digits = demo.prepare("digits", folder)

    def startup(self) -> Section:
        return startup.measure(self.folder / "start", self.digits, rounds=self.effort.starts)

    def predict(self) -> Section:
        model, effort = self.digits.paths[0], self.effort
        if self.baselines_only:
            return predict.measure(None, model, rounds=effort.rounds, seconds=effort.seconds)
        with Platform() as platform:
            platform.up()
            platform.deploy(self.digits)
            return predict.measure(platform, model, rounds=effort.rounds, seconds=effort.seconds)

    def peers(self) -> Section:
        return predictive.measure(self._serving_digits, self.digits.paths[0], self.effort)

    def gateways(self) -> Section:
        return gateways.measure(self.effort)

    @contextmanager
    def _serving_digits(self, count: int | None) -> Iterator[Platform]:
        with Platform(gateways=count) as platform:
            platform.up()
            platform.deploy(self.digits)
            yield platform

    def chat(self) -> Section:
        smol = demo.prepare("smol", self.folder)
        with Server(chat.BARE, llm_engine.MODULE, str(smol.paths[0]), *chat.same_settings(smol.endpoint)) as bare:
            contenders: list[Contender] = [bare.contender(chat.PATH)]
            if self.baselines_only:
                return chat.measure(contenders, rounds=self.effort.rounds, streams_each=self.effort.streams)
            with Platform() as platform:
                platform.up()
                platform.deploy(smol)
                platform.wait_for(chat.PATH, chat.bodies(0, 0, 1)[0])
                contenders.insert(0, platform.contender(chat.PATH, chat.PLATFORM))
                return chat.measure(contenders, rounds=self.effort.rounds, streams_each=self.effort.streams)

    def engines(self) -> Section:
        smol = demo.prepare("smol", self.folder)
        return engines.measure(smol, rounds=self.effort.rounds, streams_each=self.effort.streams)

    def affinity(self) -> Section:
        with Platform() as platform:
            platform.up()
            return affinity.measure(platform, demo.prepare("smol", self.folder), rounds=min(self.effort.rounds, 2))

    def faults(self) -> Section:
        return faults.measure()

    def relay(self) -> Section:
        return relay.measure(self.folder / "relay", rounds=self.effort.rounds)

    def overload(self) -> Section:
        return overload.measure(self.folder / "overload", seconds=self.effort.seconds * 2)

    def soak(self) -> Section:
        with self._serving_digits(1) as platform:
            return soak.measure(platform, self.digits.paths[0], seconds=self.effort.soak_s)

    def history(self) -> Section:
        return history.measure(self.folder / "history", rounds=self.effort.rounds)

    def telemetry(self) -> Section:
        return telemetry.measure(self.folder / "telemetry", seconds=self.effort.seconds, turns=self.effort.rounds)

    def diagnosis(self) -> Section:
        return diagnosis.measure(seeds=self.effort.rounds, hours=4 * self.effort.rounds)

    def drift(self) -> Section:
        return drift.measure(references=20 * min(self.effort.rounds, 3))

    def verdict(self) -> Section:
        return verdict.measure(runs=80 * self.effort.rounds)

    def rollouts(self) -> Section:
        return rollouts.measure(rounds=4 * self.effort.rounds)

    def scaling(self) -> Section:
        return scaling.measure(seeds=2 * self.effort.rounds)

    def simulated(self) -> Section:
        return simulated.measure()

    def validation(self) -> Section:
        models = {name: demo.prepare(name, self.folder) for name in demo.NAMES}
        effort, folder = self.effort, self.folder / "validation"
        return validation.measure(models, folder, rounds=effort.rounds, seconds=effort.seconds, loads=self.loads)

    def pooling(self) -> Section:
        return pooling.measure(demo.prepare("smol", self.folder), seconds=48 * self.effort.seconds)

    def apifuzz(self) -> Section:
        return apifuzz.measure(self.digits, examples=20 * self.effort.rounds)

    def migration(self) -> Section:
        return migration.measure(self.folder / "migration")


def main(arguments: list[str]) -> int:
    """Run what was asked for, print and write the report, and return the exit code."""
    rooms = (
        "startup", "predict", "chat", "engines", "relay", "overload", "affinity", "faults", "migration", "history",
        "telemetry", "diagnosis", "drift", "verdict", "rollouts", "pooling",
    )  # fmt: skip
    # They install servers or take long: when asked for.
    long = ("peers", "gateways", "soak", "scaling", "simulated", "validation", "apifuzz")
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("--quick", action="store_true", help="a minute rather than half an hour; noisy")
    parser.add_argument(
        "--only",
        default=",".join(rooms),
        help=f"rooms, separated by commas: %(default)s; also {', '.join(long)}",
    )
    parser.add_argument(
        "--loads",
        default=",".join(validation.LOADS),
        help="of the room validation, these loads alone, separated by commas: %(default)s",
    )
    parser.add_argument("--baselines", action="store_true", help="measure the baselines alone")
    chosen = parser.parse_args(arguments)
    asked = [room.strip() for room in chosen.only.split(",")]
    if unknown := [room for room in asked if room not in (*rooms, *long)]:
        parser.error(f"no room called {', '.join(unknown)}; there are {', '.join((*rooms, *long))}")
    loads = [load.strip() for load in chosen.loads.split(",")]
    if unknown := [load for load in loads if load not in validation.LOADS]:
        parser.error(f"no load called {', '.join(unknown)}; there are {', '.join(validation.LOADS)}")
    description = machine.description()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        effort = QUICK if chosen.quick else WHOLE
        bench = Bench(Path(folder), effort, baselines_only=chosen.baselines, loads=loads)
        if chosen.baselines:
            asked = [room for room in asked if room in ("predict", "chat")]
        sections = [_room(room, getattr(bench, room)) for room in asked]
    report = Report(
        " ".join(["python -m bench", *arguments]), description, sections, time.strftime("%Y-%m-%d", time.gmtime())
    )
    path = write(report)
    print(text(report))
    print(f"\nwritten to {path} and {path.with_suffix('.md').name}")
    return 1 if report.missed else 0


def _room(name: str, measure: Callable[[], Section]) -> Section:
    say(f"{name}:")
    return measure()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
