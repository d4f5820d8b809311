"""What every process says of itself, under the names of Prometheus' client libraries, and how late its loop is."""

import asyncio
import os
import resource
import time
from pathlib import Path
from typing import Final

from stoker.telemetry.metrics import Registry

LAG_EVERY_S: Final = 1.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def read_process(registry: Registry) -> None:
    """Set what the kernel says of this process now; 0.1 ms."""
    name = registry.process
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    threads, start_ticks, pages = int(fields[17]), int(fields[19]), int(fields[21])
    registry.gauge("process_resident_memory_bytes", process=name).set(float(pages * _PAGE_BYTES))
    registry.gauge("process_threads", process=name).set(float(threads))
    registry.gauge("process_open_fds", process=name).set(float(len(os.listdir("/proc/self/fd")) - 1))  # noqa: PTH208
    registry.gauge("process_max_fds", process=name).set(float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / _TICKS
    started = registry.gauge("process_start_time_seconds", process=name)
    if not started.value:  # the clock may be set meanwhile; the start stays what it was
        started.set(round(time.time() - age_s, 2))
    cpu = registry.counter("process_cpu_seconds_total", process=name)
    cpu.add(max(time.process_time() - cpu.value, 0.0))


async def watch_lag(registry: Registry) -> None:
    """Measure how late a timer fires, every LAG_EVERY_S, until cancelled."""
    lag = registry.histogram("stoker_event_loop_lag_seconds", process=registry.process)
    while True:
        due_s = time.monotonic() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag.observe(max(time.monotonic() - due_s, 0.0))
