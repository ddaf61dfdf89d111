"""Child processes: they end with their parent, and react to the first SIGTERM.

A worker calls :func:`enter_worker` first, in its initializer. Processes that a command starts as
commands of their own (a sweep starts trainings) get :func:`ending_with_parent` as environment.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

_POLL_S = 0.5
# How long loader workers outlast a SIGTERM, so that the main process gets its batches, completes
# its step and saves its state.
SAVING_STATE_S = 10.0
_PARENT = "SLOWFAST_PARENT"  # environment variable: the process whose end ends the command
# A process that saves its state when its parent has gone gets this long; then it ends.
_SAVING_S = 60.0
# The environment variable that torchrun sets, and plain uses of torch.distributed do not.
_TORCHRUN = "TORCHELASTIC_RUN_ID"


def enter_worker(outlast_sigterm_s: float = 0.0) -> None:
    """In a worker process: ignore SIGINT, end with the parent, however that ends.

    The first SIGTERM ends the worker at once or, for workers that their parent needs in order to
    save its state, after ``outlast_sigterm_s`` seconds: a signal to the process group (scancel)
    reaches both, and the parent ends its workers when it is ready (by SIGKILL, or by a second
    SIGTERM, which ends the worker at once). For the main thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = [float("inf")]

    def begin_to_end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        end[0] = time.monotonic() + outlast_sigterm_s

    signal.signal(signal.SIGTERM, begin_to_end if outlast_sigterm_s else signal.SIG_DFL)
    watch_parent(lambda: os._exit(1), lambda: time.monotonic() > end[0])


def watch_parent(
    on_end: Callable[[], None], is_due: Callable[[], bool] = lambda: False
) -> threading.Thread:
    """Start a daemon thread that calls ``on_end`` once, within a second of the parent's end.

    It ends the process by SIGTERM as soon as ``is_due()``. It works for children of fork, spawn and
    forkserver and on every POSIX system: it compares the parent's number, and asks
    multiprocessing, which holds a pipe to the process that started this one. (PR_SET_PDEATHSIG of
    Linux fires when the *thread* that started the child ends, and knows nothing of a forkserver.)
    """
    first, starter = os.getppid(), multiprocessing.parent_process()

    def watch() -> None:
        while os.getppid() == first and (starter is None or starter.is_alive()):
            if is_due():
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_POLL_S)
        on_end()

    thread = threading.Thread(target=watch, name="watch of the parent", daemon=True)
    thread.start()
    return thread


def end_children() -> None:
    """Kill the worker processes that are still alive, so that nothing waits for them at exit.

    What multiprocessing does at exit, one SIGTERM and an endless wait, ends no worker that outlasts
    it. Workers hold no state.
    """
    children = multiprocessing.active_children()
    if threading.current_thread() is threading.main_thread():
        # PyTorch's handler would raise an error for each of them.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in children:
        child.kill()
    for child in children:
        child.join(_POLL_S)


def ending_with_parent(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of a command that this process starts and that has to end with it."""
    return dict(os.environ if env is None else env) | {_PARENT: str(os.getpid())}


def follow_launcher(env: Mapping[str, str] | None = None) -> bool:
    """Let this command be stopped by SIGTERM, which saves its state, when its launcher has gone.

    Its launcher is the process that gave it :func:`ending_with_parent`, or torchrun. False if there
    is none: a training outlives the shell that started it.
    """
    env = os.environ if env is None else env
    if env.get(_PARENT) != str(os.getppid()) and _TORCHRUN not in env:
        return False
    watch_parent(stop_this_process)
    return True


def stop_this_process() -> None:
    """SIGTERM for this process and, a minute later, its end."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SAVING_S)
    os._exit(128 + signal.SIGTERM)


def free_port() -> int:
    """A port of this machine that is not in use."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
