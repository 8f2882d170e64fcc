"""What a process uses: its CPU time and memory, and the GPU that it computes on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psutil

from serve.observability.meter import Meter
from serve.observability.metrics import (
    DEVICE_ERRORS,
    DEVICE_MEMORY_TOTAL,
    DEVICE_MEMORY_USED,
    DEVICE_POWER,
    DEVICE_TEMPERATURE,
    DEVICE_UTILIZATION,
    PROCESS_CPU,
    PROCESS_MEMORY,
)


class ProcessSample:
    """CPU time and memory of this process, its threads included and its children not."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._process = psutil.Process()
        self._told_s = 0.0

    def sample(self) -> None:
        with self._process.oneshot():
            times, memory = self._process.cpu_times(), self._process.memory_info()
        used_s = times.user + times.system
        self._meter.count(PROCESS_CPU, max(0.0, used_s - self._told_s))
        self._told_s = max(used_s, self._told_s)
        self._meter.set(PROCESS_MEMORY, memory.rss)


class GpuSample:
    """An NVIDIA GPU as its driver describes it, by NVML.

    Needs nvidia-ml-py, of the extra ``gpu``. What the GPU's kind does not tell is left out.
    """

    def __init__(self, meter: Meter, uuid: str, device: str) -> None:
        """``uuid`` is the GPU's as torch has it; ``device`` is the label.

        Raises:
            ImportError: nvidia-ml-py is not installed.
            NVMLError: there is no driver, or no such GPU.
        """
        import pynvml

        self._nvml: Any = pynvml
        self._meter, self._device = meter, device
        pynvml.nvmlInit()
        self._gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        self._ecc_errors = self._uncorrected()
        self._events = pynvml.nvmlEventSetCreate()
        try:
            xid = pynvml.nvmlEventTypeXidCriticalError
            pynvml.nvmlDeviceRegisterEvents(self._gpu, xid, self._events)
        except pynvml.NVMLError:  # neither every GPU nor every container has events
            self._events = None

    def sample(self) -> None:
        nvml, gpu, device = self._nvml, self._gpu, self._device
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
        self._meter.set(DEVICE_MEMORY_USED, memory.used, device=device)
        self._meter.set(DEVICE_MEMORY_TOTAL, memory.total, device=device)
        with suppress(nvml.NVMLError_NotSupported):
            busy = nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
            self._meter.set(DEVICE_UTILIZATION, busy, device=device)
        with suppress(nvml.NVMLError_NotSupported):
            watts = nvml.nvmlDeviceGetPowerUsage(gpu) / 1000
            self._meter.set(DEVICE_POWER, watts, device=device)
        with suppress(nvml.NVMLError_NotSupported):
            celsius = nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
            self._meter.set(DEVICE_TEMPERATURE, celsius, device=device)
        errors = self._uncorrected()
        self._meter.count(DEVICE_ERRORS, errors - self._ecc_errors, device=device, kind="ecc")
        self._ecc_errors = errors
        self._meter.count(DEVICE_ERRORS, self._xids(), device=device, kind="xid")

    def _uncorrected(self) -> int:
        """ECC errors since the driver was loaded."""
        nvml = self._nvml
        try:
            errors: int = nvml.nvmlDeviceGetTotalEccErrors(
                self._gpu, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            )
        except nvml.NVMLError_NotSupported:
            return 0
        return errors

    def _xids(self) -> int:
        """Critical errors since the last call."""
        found = 0
        while self._events is not None:
            try:
                self._nvml.nvmlEventSetWait_v2(self._events, 0)
            except self._nvml.NVMLError_Timeout:
                break
            found += 1
        return found
