"""Python scripts in processes of their own that need not import PyTorch again.

A server process imports the framework once and forks for each script, which is a process like any
other: own arguments, folder, environment, output and exit code. Six seconds become none.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch

from slowfast.analysis.stress.runs import Surroundings

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["slowfast.registered", "slowfast.engine.run", "matplotlib.figure", "tests.scripts"]
)


def enter_process(env: dict[str, str], out: str, err: str) -> None:
    """Make a forked process what a command of its own would be; output goes to the files."""
    os.environ.clear()
    os.environ.update(env)
    multiprocessing.set_start_method("fork", force=True)  # the default of a command of its own
    torch.set_num_threads(1)
    for number, path in ((1, out), (2, err)):
        with open(path, "a") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _stream(number: int, encoding: str = "utf-8") -> TextIO:
    return open(number, "w", encoding=encoding, closefd=False)


def spoil_output(kind: str) -> None:
    """Make standard output ``closed``, ``full``, a ``pipe`` without a reader, or plain ``ascii``."""
    Surroundings(output=kind).enter()
    open_output("ascii" if kind == "ascii" else "utf-8")


def open_output(encoding: str = "utf-8") -> None:
    """Open standard output as Python does when it starts: None if it is closed."""
    try:
        sys.stdout = _stream(1, encoding)
    except OSError:
        sys.stdout = None


def _run(argv: Sequence[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    enter_process(env, out, err)
    os.chdir(cwd)
    sys.argv = list(argv)
    sys.path.insert(0, str(Path(argv[0]).parent))
    runpy.run_path(argv[0], run_name="__main__")


def run_script(
    script: Path, *args: object, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """``python <script> <args>``, as :func:`subprocess.run` would give it, with both outputs.

    It sees no GPU, so that recipes which use what is there give the same everywhere.
    """
    argv = [str(script), *map(str, args)]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        values = {"CUDA_VISIBLE_DEVICES": ""} | (dict(os.environ) if env is None else env)
        process = CONTEXT.Process(target=_run, args=(argv, str(cwd), values, str(out), str(err)))
        process.start()
        process.join()
        return subprocess.CompletedProcess(argv, process.exitcode, out.read_text(), err.read_text())
