"""What engines and GPUs do at the moment, as the history was told last: tables for `stoker describe`."""

from collections.abc import Mapping
from typing import Final

from stoker.cli.output import columns
from stoker.client.control import ControlClient
from stoker.types.errors import StokerError
from stoker.types.units import format_bytes

# A minute's mean of what is held at a time: a moment's number jumps.
_ENGINES: Final[dict[str, str]] = {
    "running": "avg by (replica) (stoker_engine_running{%s}[1m])",
    "slots": "max by (replica) (stoker_engine_slots{%s})",
    "waiting": "avg by (replica) (stoker_engine_queue_depth{%s}[1m])",
    "cache": "max by (replica) (stoker_kv_cache_usage_ratio{%s})",
    "tokens": "rate by (replica) (stoker_engine_tokens_total{%s}[1m])",
    "requests": "rate by (replica) (stoker_engine_finished_total{%s}[1m])",
}
SLOTS_SHOWN: Final = 1024  # what runs rows and not sequences has room for a hundred thousand, and nobody fills it
_GPUS: Final[dict[str, str]] = {
    "work": 'avg by (gpu) (stoker_gpu_utilization_ratio{node="%s"}[1m])',
    "used": 'max by (gpu) (stoker_gpu_memory_used_bytes{node="%s"})',
    "all": 'max by (gpu) (stoker_gpu_memory_bytes{node="%s"})',
}


def engines(control: ControlClient, project: str, endpoint: str) -> str:
    """Return what the endpoint's engines do, a line a replica; "" where the history has nothing or cannot be asked."""
    of = f'project="{project}", endpoint="{endpoint}"'
    found = _asked(control, _ENGINES, "replica", of)
    rows = [
        (
            replica,
            _figure(seen.get("running"))
            + (f" of {seen['slots']:.0f}" if 0 < seen.get("slots", 0.0) <= SLOTS_SHOWN else ""),
            _figure(seen.get("waiting")),
            f"{seen['cache']:.0%}" if "cache" in seen else "-",
            _figure(seen.get("requests")),
            _figure(seen["tokens"]) if seen.get("tokens") else "-",
        )
        for replica, seen in sorted(found.items())
        if "running" in seen
    ]
    return columns(("REPLICA", "RUNNING", "WAITING", "CACHE USED", "REQUESTS/S", "TOKENS/S"), rows) if rows else ""


def gpus(control: ControlClient, node: str) -> str:
    """Return what the GPUs of a node do; "" where it has none."""
    found = _asked(control, _GPUS, "gpu", node)
    rows = [
        (
            gpu,
            f"{seen['work']:.0%}",
            f"{format_bytes(int(seen.get('used', 0)))} of {format_bytes(int(seen.get('all', 0)))}",
        )
        for gpu, seen in sorted(found.items())
        if "work" in seen
    ]
    return columns(("GPU", "AT WORK", "MEMORY"), rows) if rows else ""


def _asked(control: ControlClient, questions: Mapping[str, str], label: str, of: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for what, text in questions.items():
        try:
            lines = control.query(text % of).lines
        except StokerError:  # the rest of the page is worth having
            return {}
        for line in lines:
            value = line.values[-1] if line.values else None
            if value is not None:
                found.setdefault(line.labels.get(label, ""), {})[what] = value
    return found


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.2g}"
