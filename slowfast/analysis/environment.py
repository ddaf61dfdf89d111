"""Report of the environment: packages, decoders, devices, and what is missing.

Imports only the standard library until the packages have been checked, so that it also works in an
incomplete installation.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MINIMUM_PYTHON = (3, 10)
# Distribution -> module, where the names differ.
_MODULES = {
    "faiss-cpu": "faiss",
    "open_clip_torch": "open_clip",
    "pyyaml": "yaml",
    "opencv-python-headless": "cv2",
    "pytest-xdist": "xdist",
    "pillow": "PIL",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` is empty if nothing has to be done.

    The framework cannot run while a ``required`` finding has a remedy.
    """

    name: str
    state: str
    remedy: str = ""
    required: bool = True

    def __str__(self) -> str:
        mark = "ok" if not self.remedy else "MISSING" if self.required else "-"
        tail = f"  -> {self.remedy}" if self.remedy else ""
        return f"{mark:<8}{self.name:<26}{self.state}{tail}"


def examine(root: Path) -> list[Finding]:
    """All findings for the project at ``root``."""
    findings = [_python()]
    findings += [_package(*requirement) for requirement in _requirements(root / "pyproject.toml")]
    if not any(f.remedy and f.name.split()[0] in ("torch", "av") for f in findings):
        findings += [*_decoders(), *_devices()]
    findings += _machine(root)
    return findings


def is_ready(findings: list[Finding]) -> bool:
    """Whether everything that is required is present."""
    return not any(f.required and f.remedy for f in findings)


def _python() -> Finding:
    version = platform.python_version()
    too_old = sys.version_info < _MINIMUM_PYTHON
    return Finding(
        "python",
        f"{version} on {platform.platform()}",
        f"Python {'.'.join(map(str, _MINIMUM_PYTHON))} or newer is needed" if too_old else "",
    )


def _requirements(pyproject: Path) -> Iterator[tuple[str, str]]:
    """(requirement, extra or "") of the project; Python 3.10 has no TOML parser."""
    if not pyproject.is_file():  # installed from a wheel
        for text in importlib.metadata.requires("slowfast") or []:
            name, _, marker = text.partition(";")
            extra = re.search(r"extra == ['\"](\w+)", marker)
            yield name.strip(), extra[1] if extra else ""
        return
    text = pyproject.read_text(encoding="utf-8")
    hard = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M)
    yield from ((name, "") for name in re.findall(r'"([^"]+)"', hard[1]))
    optional = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for extra, names in re.findall(r"^(\w+) = \[(.*?)\]$", optional, re.S | re.M):
        yield from ((name, extra) for name in re.findall(r'"([^"]+)"', names))


def _package(requirement: str, extra: str) -> Finding:
    name = re.match(r"[\w.-]+", requirement)[0]
    versions = requirement[len(name) :]
    label = f"{name} [{extra}]" if extra else name
    remedy = f'pip install -e ".[{extra}]"' if extra else "pip install -c constraints.txt -e ."
    try:
        version = importlib.metadata.version(name)
        importlib.import_module(_MODULES.get(name.lower(), name).replace("-", "_"))
    except importlib.metadata.PackageNotFoundError:
        return Finding(label, f"absent, needs {versions}", remedy, required=not extra)
    except (ImportError, OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0][:100]
        return Finding(label, f"cannot be imported: {first}", remedy, required=not extra)
    wrong = not _fits(version, versions)
    text = f"{version} (needs {versions})" if wrong else version
    return Finding(label, text, remedy if wrong else "", required=not extra)


def _fits(version: str, versions: str) -> bool:
    numbers = _numbers(version)
    for series in re.findall(r"!=([\d.]+)\.\*", versions):
        if numbers[: len(_numbers(series))] == _numbers(series):
            return False
    for sign, limit in re.findall(r"(>=|<)([\w.]+)", versions):
        below = numbers < _numbers(limit)
        if below == (sign == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _decoders() -> Iterator[Finding]:
    import av

    from slowfast.video.backends import torchcodec

    yield Finding("decoder pyav", f"av {av.__version__} with its own FFmpeg")
    reason = torchcodec.why_missing()
    yield Finding(
        "decoder torchcodec",
        reason or "usable (DATA.DECODING_BACKEND torchcodec)",
        "optional; pyav is used instead" if reason else "",
        required=False,
    )


def _devices() -> Iterator[Finding]:
    from slowfast.utils.runtime import cudnn_version, describe_devices

    devices = describe_devices()
    for number, text in enumerate(devices):
        yield Finding(f"GPU {number}", text)
    if not devices:
        yield Finding(
            "GPU",
            "none that PyTorch can use",
            "set NUM_GPUS 0, or -1 for whatever is there",
            required=False,
        )
    if version := cudnn_version():
        yield Finding("cuDNN", ".".join(map(str, version)), _cudnn_hazard(version), required=False)


def _cudnn_hazard(version: tuple[int, ...]) -> str:
    """What is wrong with half-precision 3-D convolutions in a version of cuDNN; empty: nothing."""
    if version < (9,):
        return "older than PyTorch 2.7 is made for: pip install -U nvidia-cudnn-cu12"
    if (9, 8) <= version < (9, 15):
        return (
            "conv3d in float16 and bfloat16 can be wrong (PyTorch issue 163539): "
            "pip install -U 'nvidia-cudnn-cu12>=9.15', or TRAIN.MIXED_PRECISION False"
        )
    return ""


def _machine(root: Path) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("processor cores", f"{cores}")
    yield Finding("free disk", f"{shutil.disk_usage(root).free / 2**30:.1f} GiB at {root}")
    shared = Path("/dev/shm")
    if shared.is_dir():
        gib = shutil.disk_usage(shared).total / 2**30
        yield Finding(
            "shared memory",
            f"{gib:.1f} GiB at {shared}",
            "loader workers may need more: docker run --shm-size 8g" if gib < 1 else "",
            required=False,
        )
