"""Device, precision, ranks and memory of this process. The only file that uses torch.cuda."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from slowfast.utils.errors import UserError


@dataclass(frozen=True)
class Runtime:
    """Device and rank of this process; chosen once and passed to whatever needs it."""

    device: torch.device
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1  # processes on this machine

    @property
    def is_main(self) -> bool:
        """True on the one process that writes logs and checkpoints."""
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        """True if the network computes on a GPU."""
        return self.device.type == "cuda"

    @property
    def steps_ahead(self) -> int:
        """Steps that the host gives to the device before it reads the figures of the first: the
        next one must be there when a GPU has finished; a CPU has finished when it returns."""
        return 1 if self.on_gpu else 0

    def device_name(self) -> str:
        """Name of the GPU; ``CPU`` without one."""
        return torch.cuda.get_device_name(self.device) if self.on_gpu else "CPU"

    def synchronize(self) -> None:
        """Wait until the device has finished; does nothing on the CPU."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def enter_thread(self) -> None:
        """Use this process's GPU in the present thread, too; a new thread would use the first."""
        if self.on_gpu:
            torch.cuda.set_device(self.device)

    def amp_dtype(self, name: str) -> torch.dtype:
        """The type that autocast uses for TRAIN.AMP_DTYPE ``auto``, ``float16`` or ``bfloat16``."""
        if name == "auto":
            bf16 = not self.on_gpu or torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if bf16 else torch.float16
        return getattr(torch, name)

    @contextlib.contextmanager
    def waits(self) -> Iterator[Counter[str]]:
        """Context that counts where the process waits for a GPU: ``file:line`` -> times."""
        places: Counter[str] = Counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if self.on_gpu:
                torch.cuda.set_sync_debug_mode("warn")
            try:
                yield places
            finally:
                if self.on_gpu:
                    torch.cuda.set_sync_debug_mode("default")
        found = [w for w in caught if "called a synchroniz" in str(w.message)]
        places.update(f"{warning.filename}:{warning.lineno}" for warning in found)

    def profile(self, work: Callable[[], object]) -> tuple[float, dict[str, float]]:
        """(seconds in which a GPU computes or copies during ``work()``, seconds by operator)."""
        if not self.on_gpu:
            work()
            return 0.0, {}
        activity = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[activity.CPU, activity.CUDA]) as profile:
            work()
            self.synchronize()
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in profile.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
        )
        busy, until = 0.0, -math.inf
        for start, end in spans:
            busy += max(0.0, end - max(start, until))
            until = max(until, end)
        operators = {
            entry.key: entry.self_device_time_total / 1e6
            for entry in profile.key_averages()
            if entry.device_type == torch.autograd.DeviceType.CPU and entry.self_device_time_total
        }
        return busy / 1e6, operators

    def has_fast_bfloat16(self) -> bool:
        """Whether the device computes faster in bfloat16 than in float32: a GPU of capability 8.0
        (Ampere) or later, a CPU with AVX512-BF16 or AMX."""
        if self.on_gpu:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return bool(_FAST_BFLOAT16 & cpu_flags())

    def tune(self, tf32: bool, cudnn_benchmark: bool, deterministic: bool) -> None:
        """Choose the kernels of a GPU, for the whole process; nothing on the CPU.

        ``tf32``: float32 products and convolutions on tensor cores; ``cudnn_benchmark``: cuDNN
        tries its algorithms for every new shape; ``deterministic``: only kernels that give the same
        bits again, where there are any.
        """
        if not self.on_gpu:
            return
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = cudnn_benchmark and not deterministic
        torch.backends.cudnn.deterministic = deterministic
        if deterministic:  # read by cuBLAS when it is used first
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)

    def rng_state(self) -> dict[str, torch.Tensor]:
        """State of torch's global generators: of the CPU, and of the GPU if there is one."""
        state = {"torch": torch.get_rng_state()}
        if self.on_gpu:
            state["device"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_rng_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore a state of :meth:`rng_state`; a GPU's is ignored on the CPU."""
        torch.set_rng_state(state["torch"])
        if self.on_gpu and "device" in state:
            torch.cuda.set_rng_state(state["device"], self.device)

    def reset_peak_memory(self) -> None:
        """Start measuring :meth:`peak_memory_gb` anew (on a GPU)."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory_gb(self) -> float:
        """Peak memory in GiB: of the GPU, or of the process on the CPU."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        # Kilobytes on Linux, bytes on macOS.
        unit = 2**30 if sys.platform == "darwin" else 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    def free_memory(self) -> None:
        """Give memory that no tensor uses back to the device."""
        if self.on_gpu:
            torch.cuda.empty_cache()

    def gpu_memory_gb(self) -> float:
        """Peak GPU memory in GiB, 0 on the CPU (what the log calls ``gpu_mem``)."""
        return self.peak_memory_gb() if self.on_gpu else 0.0


# As /proc/cpuinfo calls them, on x86.
_FAST_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor; empty where ``/proc/cpuinfo`` does not name them."""
    try:
        with open("/proc/cpuinfo") as file:
            line = next((row for row in file if row.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(line.partition(":")[2].split())


def gpu_count() -> int:
    """Number of GPUs that are visible to this process."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


ALL_GPUS = -1  # NUM_GPUS: whatever is there


def gpus_to_use(batch_sizes: Sequence[int], env: Mapping[str, str] = os.environ) -> int:
    """What ``NUM_GPUS`` -1 means here: 0 without a visible GPU; else as many as are visible, or the
    next smaller number that divides the batches. Under torchrun, a GPU for each process."""
    found = gpu_count()
    if found and "LOCAL_WORLD_SIZE" in env:
        return int(env["LOCAL_WORLD_SIZE"])
    common = math.gcd(*batch_sizes)
    return next((number for number in range(found, 0, -1) if common % number == 0), 0)


def describe_devices() -> list[str]:
    """Name, memory and capability of every visible GPU."""
    lines = []
    for number in range(gpu_count()):
        facts = torch.cuda.get_device_properties(number)
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        lines.append(
            f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {half}, CUDA {torch.version.cuda}"
        )
    return lines


def cudnn_version() -> tuple[int, int, int] | None:
    """(major, minor, patch) of the cuDNN that PyTorch uses; None if it was built without."""
    number = torch.backends.cudnn.version()
    if number is None:
        return None
    unit = 10000 if number >= 90000 else 1000  # since 9.0: 91501 for 9.15.1; before: 8902 for 8.9.2
    return number // unit, number % unit // 100, number % 100


def check_gpu_count(num_gpus: int) -> None:
    """UserError if fewer GPUs are visible; takes memory of none of them."""
    if gpu_count() < num_gpus:
        raise UserError(
            f"{num_gpus} GPU(s) asked for, {gpu_count()} found on this machine",
            "set NUM_GPUS 0 to run on the CPU, or -1 to use the GPUs that are there",
            "NUM_GPUS",
        )


def choose_device(num_gpus: int, local_rank: int = 0, local_world: int = 1) -> torch.device:
    """CPU for ``NUM_GPUS 0``, else the GPU of process ``local_rank`` of the ``local_world`` of this
    machine, which becomes the current one; UserError if there are too few.

    A scheduler may show every process its own GPU alone (SLURM's ``--gpus-per-task 1``), which is
    number 0 for each of them then.
    """
    if num_gpus == 0:
        return torch.device("cpu")
    own_gpu_alone = local_world > 1 and gpu_count() == 1
    if not own_gpu_alone:
        check_gpu_count(max(num_gpus, local_world))
    number = local_rank % gpu_count()
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def device_identity(device: torch.device) -> str:
    """The same text in all processes of a machine that use the same GPU; empty on the CPU."""
    if device.type != "cuda":
        return ""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))


def seed_process(seed: int) -> None:
    """Seed torch's global generator (initialisation, dropout); data has its own generators."""
    torch.manual_seed(seed)


def ram_usage_gb() -> tuple[float, float]:
    """(used, total) memory of the machine in GiB; zeros without ``/proc/meminfo``."""
    try:
        with open("/proc/meminfo") as file:
            info = {line.split(":")[0]: int(line.split()[1]) for line in file}
    except OSError:
        return 0.0, 0.0
    total, free = info["MemTotal"], info["MemAvailable"]
    return (total - free) / 2**20, total / 2**20


def cpu_count() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
