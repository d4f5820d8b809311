"""What a process says of itself is what the kernel says; a machine without GPUs, or with a broken one, says nothing."""

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from stoker.telemetry import disk
from stoker.telemetry.clock import ClockWatch
from stoker.telemetry.disk import WriteProbe, room, shortness
from stoker.telemetry.gpu import Gpus
from stoker.telemetry.metrics import Counter, Registry
from stoker.telemetry.process import read_process

NVML = """
class NVMLError(Exception): pass
class _U: gpu = 75
class _M: used, total = 3 << 30, 8 << 30
def nvmlInit(): {init}
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUtilizationRates(handle):
    if handle == 1: raise NVMLError("GPU is lost")
    return _U
def nvmlDeviceGetMemoryInfo(handle): return _M
"""


def test_a_process_says_what_the_kernel_says() -> None:
    registry, known = Registry("me"), psutil.Process()
    for _ in range(100):  # whatever ran before in this process may end a thread or close a file at this moment
        before = known.num_threads(), known.num_fds()
        read_process(registry)
        read_process(registry)
        seen = registry.snapshot()
        if before == (known.num_threads(), known.num_fds()):
            break
    assert seen.total("process_resident_memory_bytes") == pytest.approx(known.memory_info().rss, rel=0.2)
    assert seen.total("process_start_time_seconds") == pytest.approx(known.create_time(), abs=1.5)
    assert seen.total("process_threads") == known.num_threads()
    assert abs(seen.total("process_open_fds") - known.num_fds()) <= 1
    assert 0 < seen.total("process_cpu_seconds_total") <= time.process_time()


def test_without_nvml_nothing_is_said_of_gpus() -> None:
    registry = Registry("agent")
    Gpus(registry, "n1", module="no_such_module").read()
    assert registry.snapshot().metrics == ()


@pytest.mark.parametrize("works", [True, False])
def test_gpus_are_read_as_nvml_says_and_a_lost_one_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    name = f"nvml_{os.getpid()}_{works}"
    init = "pass" if works else "raise NVMLError('no driver')"
    (tmp_path / f"{name}.py").write_text(NVML.format(init=init))
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("agent")
    Gpus(registry, "n1", module=name).read()
    sys.modules.pop(name, None)
    seen = registry.snapshot()
    if works:
        assert seen.total("stoker_gpu_utilization_ratio", node="n1", gpu="0") == 0.75
        assert seen.total("stoker_gpu_memory_used_bytes", node="n1") == 3 << 30
        assert seen.values_of("stoker_gpu_memory_bytes", "gpu") == ["0"]
    else:
        assert seen.metrics == ()


def test_a_clock_that_is_set_is_told_by_how_much_and_one_that_is_turned_gently_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = {"wall": 1_800_000_000.0, "boot": 500.0}
    monkeypatch.setattr(time, "time", lambda: now["wall"])
    monkeypatch.setattr(time, "clock_gettime", lambda _: now["boot"])
    stepped = Counter()
    watch = ClockWatch(stepped)
    for passed, moved, seen in ((5, 0.0, 0), (5, 0.3, 0), (3600, 1.8, 0), (5, -3600.0, 3600), (5, 0.7, 3600.7)):
        now["boot"] += passed
        now["wall"] += passed + moved
        watch.look()
        assert stepped.value == pytest.approx(seen, abs=0.001)


def test_a_folder_that_cannot_be_written_to_is_told_until_it_can_be_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    probe = WriteProbe(folder)

    def becomes(*, refused: bool) -> bool:
        deadline = time.monotonic() + 60
        while probe.look() is not refused and time.monotonic() < deadline:
            time.sleep(0.001)
        return probe.look() is refused

    assert becomes(refused=True)
    folder.mkdir()
    assert becomes(refused=False)
    assert room(folder) == pytest.approx((shutil.disk_usage(folder).total, shutil.disk_usage(folder).free), rel=0.01)
    assert room(folder / "nothing") is None
    assert [shortness(free << 20) for free in (0, 64, 288, 512, 9000)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_a_disk_that_hangs_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {thread for thread in threading.enumerate() if thread.name == "write probe"}  # of tests before this one
    os.mkfifo(tmp_path / f".probe-{os.getpid()}")  # to open it for writing waits for a reader
    monkeypatch.setattr(disk, "HANGS_S", 0.05)
    probe = WriteProbe(tmp_path)
    deadline = time.monotonic() + 60
    while not probe.look():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (mine,) = (each for each in threading.enumerate() if each.name == "write probe" and each not in others)
    os.close(os.open(tmp_path / f".probe-{os.getpid()}", os.O_RDONLY | os.O_NONBLOCK))
    mine.join(60)
    assert not mine.is_alive()
