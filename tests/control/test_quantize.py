"""Quantizing and comparing over the API: real models, real processes, and nothing left of what was cut."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from stoker.blob.folder import FolderBlobs
from stoker.client import works
from stoker.client.connection import Connection
from stoker.client.credentials import read_credentials
from stoker.client.registration import Registration
from stoker.client.releases import ReleaseClient
from stoker.client.upload import LocalFile, push
from stoker.control.compare import Comparer
from stoker.types.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported
from stoker.types.likeness import Likeness
from stoker.types.quantization import Quantized
from stoker.types.releases import GOLDEN_FILE, GateResult, ReleaseView
from stoker.types.work import Step
from tests.control.rig import Rig, conditions, endpoint, until
from tests.engines_llm.support import packaged_model

QUANTIZING, READING = "stoker.registry.quantize.main", "stoker.runtime.score_main"
TEXTS = (
    "The capital of France is Paris. Paris lies on the river Seine, and two million people live in the city.",
    "A cup of tea is made by pouring hot water over leaves and waiting for three minutes.",
    "Seven times eight is fifty-six, and fifty-six divided by seven is eight.",
    "Winter came early that year, and the lake froze before the first week of November was over.",
    "Der Zug hatte eine Stunde Verspätung, und auf dem Bahnsteig wurde es langsam dunkel.",
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("quantize") / "h")
    rig.start()
    rig.push("smol", packaged_model())
    yield rig
    rig.close()


def connection(rig: Rig) -> Connection:
    return Connection(f"unix:{rig.home.run / 'control-api.sock'}", read_credentials(rig.home.credentials).key)


def workers(rig: Rig, module: str) -> list[psutil.Process]:
    assert rig.process is not None
    return children(rig.process.pid, module)


def children(pid: int, module: str) -> list[psutil.Process]:
    """Return the children of a process that run `module`, none that is dying."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            if module in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def made_of(steps: Iterator[Any], kind: type[Any]) -> Any:
    *stages, last = steps
    assert all(isinstance(each, Step) for each in stages)
    assert isinstance(last, kind)
    return last


def is_clean(rig: Rig) -> bool:
    return not list(rig.home.tmp.iterdir()) and not workers(rig, QUANTIZING) and not workers(rig, READING)


def quantized(rig: Rig, to: str = "q4_0") -> Iterator[Any]:
    return works.quantize(connection(rig), "smol", "1", to, requantize=True)


@pytest.fixture(scope="module")
def small(rig: Rig) -> str:
    """The number of a version of smol in fewer bits."""
    made = made_of(quantized(rig), Quantized)
    registered = rig.client.register(
        "smol",
        Registration(
            files=made.files,
            format=made.format,
            entry=made.entry,
            tasks=made.tasks,
            options=made.options,
            metadata=made.metadata,
            lineage=msgspec.to_builtins(made.lineage),
        ),
    )
    assert registered.is_new
    return str(registered.version.number)


def test_a_quantized_version_knows_its_parent_and_how_it_was_made(rig: Rig, small: str) -> None:
    parent, version = rig.client.version("smol", "1"), rig.client.version("smol", small)
    assert version.manifest.lineage.parent == "smol@1"
    assert version.manifest.metadata["quantized_to"] == "q4_0"
    assert version.manifest.metadata["quantization"] == "Q4_0"
    assert version.manifest.entry == "SmolLM2-135M-Instruct.Q4_0.gguf"
    assert version.made_at_s == parent.made_at_s
    assert version.size_bytes < parent.size_bytes
    until(lambda: is_clean(rig), "nothing is left")


def test_the_same_again_is_the_same_files(rig: Rig, small: str) -> None:
    assert made_of(quantized(rig), Quantized).files == rig.client.version("smol", small).manifest.files


@pytest.mark.parametrize(
    ("name", "which", "to", "error"),
    [
        ("smol", "1", "q4_k_m", Conflict),
        ("smol", "1", "int8", InvalidInput),
        ("smol", "99", "q8_0", NotFound),
        ("smol", "1", "q9", InvalidInput),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_reason(
    rig: Rig, name: str, which: str, to: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        list(works.quantize(connection(rig), name, which, to))
    until(lambda: is_clean(rig), "nothing is left")


def test_a_format_without_a_quantizer_is_refused(rig: Rig) -> None:
    rig.client.register("far", Registration(files=(), format="remote", options={"url": "http://127.0.0.1:1/v1"}))
    with pytest.raises(Unsupported, match="gguf and onnx can be quantized"):
        list(works.quantize(connection(rig), "far", "1", "q8_0"))
    with pytest.raises(Unsupported, match="no language model in the format gguf"):
        list(works.compare(connection(rig), ("smol", "1"), ("far", "1"), TEXTS, "default"))


def test_a_caller_who_leaves_ends_the_work_and_nothing_is_left(rig: Rig) -> None:
    before = set(rig.home.blobs.rglob("*"))
    steps = quantized(rig, "q3_k_m")
    with closing(steps):
        next(steps)
        until(lambda: workers(rig, QUANTIZING), "the process runs")
    until(lambda: is_clean(rig), "it is gone, with its files")
    assert set(rig.home.blobs.rglob("*")) == before


def test_a_process_that_is_killed_is_told_and_nothing_is_left(rig: Rig) -> None:
    steps = quantized(rig, "q3_k_m")
    with closing(steps):
        next(steps)
        (process,) = until(lambda: workers(rig, QUANTIZING), "the process runs")
        process.kill()
        with pytest.raises(Unavailable, match="quantizing smol@1 was killed"):
            list(steps)
    until(lambda: is_clean(rig), "nothing is left")


def test_one_waits_for_the_other_and_is_told_so(rig: Rig) -> None:
    first, second = quantized(rig, "q3_k_m"), quantized(rig)
    with closing(first), closing(second):
        next(first)
        assert next(second) == Step("waiting for another to be done")
        first.close()
        assert isinstance(list(second)[-1], Quantized)


def test_versions_are_compared_in_turns_with_intervals(rig: Rig, small: str) -> None:
    found = made_of(works.compare(connection(rig), ("smol", "1"), ("smol", small), TEXTS, "default"), Likeness)
    assert (found.base.ref, found.other.ref) == ("smol@1", f"smol@{small}")
    assert found.texts == 5
    assert 60 < found.tokens < 200
    assert 5 < found.base.perplexity.value < 200
    assert 0.5 < found.perplexity_ratio.value < 2
    assert found.perplexity_ratio.low < found.perplexity_ratio.value < found.perplexity_ratio.high
    assert 0.5 < found.agreement_ratio.value < 1
    assert found.size_ratio == found.other.size_bytes / found.base.size_bytes < 1
    for side in (found.base, found.other):
        assert side.read_tokens_per_s > 0
        assert side.write_tokens_per_s > 0
        assert side.engine.startswith("llamacpp ")
    until(lambda: is_clean(rig), "nothing is left")


def test_a_version_is_like_itself(rig: Rig) -> None:
    found = made_of(works.compare(connection(rig), ("smol", "1"), ("smol", "1"), TEXTS, "default"), Likeness)
    assert found.perplexity_ratio.value == found.agreement_ratio.value == found.size_ratio == 1.0
    assert found.agreement_ratio.low < 0.9  # five texts prove little


def test_a_judge_gets_the_outcome_alone_and_a_judge_who_stops_leaves_nothing(rig: Rig) -> None:
    version = rig.client.version("smol", "1")

    async def judged() -> tuple[Likeness, list[Path]]:
        comparer = Comparer(FolderBlobs(rig.home.blobs, rig.home.tmp), rig.home.models, rig.home.tmp)
        found = await comparer.likeness(version, version, TEXTS)
        stopped = asyncio.create_task(comparer.likeness(version, version, TEXTS * 20))
        while not children(os.getpid(), READING):
            await asyncio.sleep(0.01)
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)
        return found, list(rig.home.tmp.iterdir())

    found, left = asyncio.run(asyncio.wait_for(judged(), 100))
    assert found.perplexity_ratio.value == 1.0
    assert left == []
    until(lambda: not children(os.getpid(), READING), "the process is gone")


def test_too_few_texts_are_refused_at_once(rig: Rig) -> None:
    with pytest.raises(InvalidInput, match="2 texts; give 5 to 1000"):
        list(works.compare(connection(rig), ("smol", "1"), ("smol", "1"), TEXTS[:2], "default"))


def test_a_reader_that_dies_is_told_and_nothing_is_left(rig: Rig) -> None:
    steps = works.compare(connection(rig), ("smol", "1"), ("smol", "1"), TEXTS * 20, "default")
    with closing(steps):
        assert next(steps) == Step("loading smol@1")
        until(lambda: len(workers(rig, READING)) == 2, "both run")
        workers(rig, READING)[1].send_signal(signal.SIGSEGV)
        with pytest.raises(Unavailable, match=r"reading with smol@1 crashed \(SIGSEGV\)"):
            list(steps)
    until(lambda: is_clean(rig), "both are gone, with their files")


def test_what_a_dying_control_leaves_goes_with_it_and_at_its_next_start(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "h")
    try:
        rig.start()
        rig.push("smol", packaged_model())
        steps = quantized(rig, "q3_k_m")
        with closing(steps):
            next(steps)
            (process,) = until(lambda: workers(rig, QUANTIZING), "the process runs")
            rig.kill()
            until(lambda: not process.is_running(), "it died with control")
            assert list(rig.home.tmp.iterdir())
        rig.start()
        assert not list(rig.home.tmp.iterdir())
    finally:
        rig.close()


def gated(rig: Rig, name: str, model: str, golden: dict[str, Any] | None = None, **likeness: Any) -> ReleaseView:
    """Ask an endpoint for a version and return its dossier once it is decided."""
    gates = {"likeness": {"texts": 5, **likeness}, "golden": golden or {}}
    spec = endpoint(name, model=model, task="chat", gates=gates)
    status, answer, _ = rig.request("POST", "/api/v1/apply", spec)
    assert status == 200, answer

    def decided() -> ReleaseView | None:
        try:
            view = ReleaseClient(rig.client.connection).get("default", name)
        except NotFound:
            return None
        return view if view.dossier.state != "pending" else None

    return until(decided, "the dossier is decided", 180)


def of(view: ReleaseView, kind: str = "likeness") -> GateResult | None:
    return next((each for each in view.dossier.results if each.kind == kind), None)


def test_a_quantized_version_that_is_surely_worse_than_its_parent_is_refused_with_both_numbers(
    rig: Rig, small: str
) -> None:
    view = gated(rig, "strict", f"smol@{small}")
    found = of(view)
    assert found is not None
    assert (view.dossier.state, found.state) == ("refused", "failed"), found.because
    assert "that of smol@1" in found.because
    assert "the same next token less than 80.0% of the time, and chance does not explain it" in found.because
    assert found.numbers["texts"] == 5
    assert found.numbers["agreement_ratio_high"] < 0.8
    assert found.numbers["perplexity_parent"] < found.numbers["perplexity"]
    assert found.numbers["size_ratio"] < 1
    until(lambda: conditions(rig, "strict")["Released"].reason == "LikenessWorse", "the condition says so")
    until(lambda: is_clean(rig), "nothing is left")


def test_a_version_reads_its_own_examples_beside_its_parent_and_for_their_perplexity(rig: Rig, tmp_path: Path) -> None:
    lines = [msgspec.json.encode({"input": text[:20], "expected": text[20:]}) for text in TEXTS]
    (tmp_path / "golden").write_bytes(b"\n".join(lines))
    beside = (LocalFile(tmp_path / "golden", GOLDEN_FILE, (tmp_path / "golden").stat().st_size),)
    made_from = Registration(files=(), metadata={"quantized_from": "smol@1"})
    push(rig.client, "told", packaged_model(), made_from, lambda *_: None, beside)
    view = gated(rig, "reads", "told@1", {"metric": "perplexity", "at_most": 1.5}, texts_of="golden")
    alike, golden = of(view), of(view, "golden")
    assert alike is not None
    assert (alike.state, alike.numbers["texts"], alike.numbers["perplexity_ratio"]) == ("passed", 5, 1.0)
    assert golden is not None
    assert golden.state == "failed"
    assert golden.because.endswith("on 5 examples; at most 1.5 is asked")
    assert golden.numbers["perplexity"] == pytest.approx(alike.numbers["perplexity"])


def test_what_cannot_be_compared_is_left_out_with_its_reason_and_the_rest_unasked(rig: Rig) -> None:
    def registered(name: str, **more: Any) -> str:
        options = {"url": "http://127.0.0.1:1/v1"}
        return rig.client.register(name, Registration(files=(), format="remote", options=options, **more)).version.ref

    plain = registered("plain")
    assert of(gated(rig, "unasked", plain)) is None
    alone = of(gated(rig, "alone", plain, when="always"))
    assert alone is not None
    assert (alone.state, alone.because) == ("skipped", "nothing serves, and it does not say what it was made from")
    odd = of(gated(rig, "odd", registered("made", metadata={"quantized_from": "smol@1"})))
    assert odd is not None
    assert odd.state == "skipped"
    assert "not compared with smol@1: made@1 is no language model in the format gguf" in odd.because
    lost = of(gated(rig, "lost", registered("orphan", metadata={"quantized_from": "gone@7"})))
    assert lost is not None
    assert (lost.state, lost.because) == ("skipped", "gone@7, which it was made from, is not in the registry")
