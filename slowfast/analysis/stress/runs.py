"""Real runs in processes of their own: started in scarcity, watched, and ended."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from slowfast.utils.processes import ending_with_parent, free_port


@dataclass(frozen=True)
class Surroundings:
    """What is scarce or broken around a process.

    ``file_size``: bytes of its largest file; ``descriptors``: files it may open; ``output``:
    standard output is ``closed``, ``full``, or a ``pipe`` without a reader; ``mounts``: folders and
    sizes of the memory file systems that stand in their place.
    """

    file_size: int = 0
    descriptors: int = 0
    output: str = ""
    mounts: tuple[tuple[str, str], ...] = ()

    def enter(self) -> None:
        """Make them those of this process, before its command begins."""
        if self.output == "closed":
            os.close(1)
        elif self.output == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        elif self.output == "pipe":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
        limits = {resource.RLIMIT_FSIZE: self.file_size, resource.RLIMIT_NOFILE: self.descriptors}
        for what, value in limits.items():
            if value:
                resource.setrlimit(what, (value, value))

    def around(self, command: Sequence[str]) -> list[str]:
        """The command that mounts the file systems for itself alone and runs ``command``."""
        if not self.mounts:
            return list(command)
        mounts = [
            f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(at)}" for at, size in self.mounts
        ]
        steps = " && ".join([*mounts, "exec " + shlex.join(command)])
        return ["unshare", "-Urm", "sh", "-c", steps]


class Process(Protocol):
    """What :class:`subprocess.Popen` offers."""

    pid: int

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...


Starter = Callable[[Sequence[str], Path, Mapping[str, str], Surroundings], Process]


def start_process(
    words: Sequence[str], console: Path, env: Mapping[str, str], around: Surroundings
) -> Process:
    """Start ``python <words>``, which ends with this process; its output goes to ``console``."""
    with open(console, "ab") as log:
        return subprocess.Popen(
            around.around([sys.executable, *words]),
            env=ending_with_parent(env),
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=around.enter,
        )


def can_mount() -> bool:
    """Whether this machine lets a user mount file systems of his own."""
    try:
        return subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class Run:
    """The processes of one run, one per rank, which write to ``out``."""

    processes: list[Process]
    out: Path
    consoles: list[Path]
    since: list[int] = field(default_factory=list)  # size of each console before

    @property
    def console(self) -> str:
        """What the processes have printed since their start."""
        texts = []
        for path, start in zip(self.consoles, self.since):
            with contextlib.suppress(FileNotFoundError):
                texts.append(path.read_bytes()[start:].decode(errors="replace"))
        return "".join(texts)

    def steps(self) -> int:
        """Lines of iterations in OUTPUT_DIR, also of earlier runs."""
        with contextlib.suppress(FileNotFoundError):
            return (self.out / "stats.jsonl").read_bytes().count(b'"train_iter"')
        return 0

    def is_running(self) -> bool:
        """Whether a process runs."""
        return any(process.poll() is None for process in self.processes)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> bool:
        """Wait until ``condition`` holds: True; False if all have ended, or it takes too long."""
        end = time.monotonic() + seconds
        while not condition():
            if not self.is_running() or time.monotonic() > end:
                return condition()
            time.sleep(0.005)
        return True

    def wait(self, seconds: float = 600) -> list[int] | None:
        """Exit codes of the ranks; None if one still runs after that time: all are killed."""
        end = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < end:
            time.sleep(0.01)
        stuck = self.is_running()
        if stuck:
            self.kill()
        codes = [process.poll() for process in self.processes]
        return None if stuck else [code for code in codes if code is not None]

    def kill(self) -> None:
        """SIGKILL for all ranks."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        while self.is_running():
            time.sleep(0.01)

    def workers(self, rank: int = 0) -> list[int]:
        """Processes that a rank has started, and those that these have."""
        return descendants(self.processes[rank].pid)


@dataclass
class Scene:
    """Where a campaign takes place: ``command``, in which ``{out}`` stands for OUTPUT_DIR, a
    ``folder`` for its runs, ranks of each, and how processes are started."""

    command: Sequence[str]
    folder: Path
    processes: int = 1
    start_one: Starter = start_process
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def start(
        self,
        name: str,
        words: Sequence[str] = (),
        around: Surroundings | None = None,
        tag: str = "",
    ) -> Run:
        """Start or resume the run ``name``; ``words`` are further KEY VALUE words, ``tag`` is a
        part of the names of the consoles."""
        out = self.folder / name
        out.mkdir(parents=True, exist_ok=True)
        command = [word.replace("{out}", str(out)) for word in (*self.command, *words)]
        consoles = [self.folder / f"{name}_console{tag}{n}.txt" for n in range(self.processes)]
        since = [path.stat().st_size if path.exists() else 0 for path in consoles]
        port = free_port()
        started = [
            self.start_one(command, console, self._env(rank, port), around or Surroundings())
            for rank, console in enumerate(consoles)
        ]
        return Run(started, out, consoles, since)

    def _env(self, rank: int, port: int) -> dict[str, str]:
        env = dict(os.environ)
        if self.processes > 1:
            env |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "localhost",
                "WORLD_SIZE": str(self.processes),
                "MASTER_PORT": str(port),
                "LOCAL_WORLD_SIZE": str(self.processes),
            }
        return env


def descendants(pid: int) -> list[int]:
    """Numbers of the processes that ``pid`` has started, and those that these have."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text(encoding="ascii").split()):
                found += [child, *descendants(child)]
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return text.rpartition(")")[2].split()[0] not in "ZX"
    return False
