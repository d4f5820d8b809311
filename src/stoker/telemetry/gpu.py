"""How many GPUs this machine has and what they do, as NVIDIA's NVML says; none without the `pynvml` module."""

import importlib
import logging
from typing import Any, Final

from stoker.telemetry.metrics import Registry

MODULE: Final = "pynvml"  # package nvidia-ml-py
GPUS_MAX: Final = 64

_log = logging.getLogger(__name__)


class Gpus:
    """The GPUs there are. Without the module, the driver or a GPU there are none, and `read` does nothing."""

    def __init__(self, registry: Registry, node: str, module: str = MODULE) -> None:
        self._registry = registry
        self._node = node
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            nvml = importlib.import_module(module)
        except ImportError:
            return
        try:
            nvml.nvmlInit()
            count = min(nvml.nvmlDeviceGetCount(), GPUS_MAX)
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except nvml.NVMLError as absent:
            _log.info("no GPU is watched", extra={"reason": str(absent)})
            return
        self._nvml = nvml

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._handles)

    def read(self) -> None:
        """Set what each GPU does now; one that does not answer keeps its last numbers and the others are read."""
        for index, handle in enumerate(self._handles):
            try:
                used = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            except self._nvml.NVMLError as lost:
                _log.warning("a GPU does not answer", extra={"gpu": index, "reason": str(lost)})
                continue
            labels = {"node": self._node, "gpu": str(index)}
            self._registry.gauge("stoker_gpu_utilization_ratio", **labels).set(used)
            self._registry.gauge("stoker_gpu_memory_used_bytes", **labels).set(float(memory.used))
            self._registry.gauge("stoker_gpu_memory_bytes", **labels).set(float(memory.total))
