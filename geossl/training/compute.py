"""Where and in which precision a run computes: probed once at the start, said aloud, recorded."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from geossl.errors import InputError


@dataclass(frozen=True)
class Compute:
    """The device, and Lightning's name of the precision (``32-true`` or ``bf16-mixed``), with the reason for it."""

    device: torch.device
    precision: str
    reason: str
    default_batch: int

    @property
    def mixed(self) -> bool:
        """Whether forward passes run under bfloat16 autocast."""
        return self.precision == "bf16-mixed"

    @property
    def accelerator(self) -> str:
        """Lightning's name of the device."""
        return "gpu" if self.device.type == "cuda" else "cpu"

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        kind = "bfloat16 autocast" if self.mixed else "float32"
        return f"{name}, {kind} ({self.reason})"


def choose_compute(devices: int = 1) -> Compute:
    """The first GPU where there is one, else the CPU; bfloat16 only where the hardware multiplies it natively.

    On a CPU bfloat16 without AVX512-BF16 or AMX is emulated and slower than float32. ``devices``: how many GPUs are
    wanted.

    Raises:
        InputError: there are GPUs, but fewer than that.
    """
    if torch.cuda.is_available():
        there = torch.cuda.device_count()
        if devices > there:
            raise InputError("there are fewer GPUs", where="--devices", expected=f"at most {there}", found=devices)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = "this GPU has bfloat16" if native else "this GPU has no native bfloat16"
        return Compute(torch.device("cuda", 0), "bf16-mixed" if native else "32-true", reason, 256)
    found = sorted({"avx512_bf16", "amx_bf16"} & cpu_flags())
    reason = f"this CPU has {', '.join(found)}" if found else "this CPU has neither avx512_bf16 nor amx_bf16"
    return Compute(torch.device("cpu"), "bf16-mixed" if found else "32-true", reason, 64)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Instruction-set flags of the CPU as Linux names them; empty where the system does not say."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    for line in text.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return set(flags.split())
    return set()


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """Peak resident memory of this process and, on a GPU, peak memory allocated there, in MiB."""
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # Linux counts KiB
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device) / 2**20
    return {name: round(value, 1) for name, value in peak.items()}
