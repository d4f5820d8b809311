"""What a process says of itself is what the kernel says; a machine without GPUs, or with a broken one, says nothing."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from stoker.telemetry.gpu import Gpus
from stoker.telemetry.metrics import Registry
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
    registry = Registry("me")
    read_process(registry)
    read_process(registry)
    seen, known = registry.snapshot(), psutil.Process()
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
