"""Errors for the user: what is wrong, where the value was set, what to do about it."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

EXIT_USER_ERROR = 2


@dataclass(frozen=True)
class Problem:
    """One thing that the user has to change.

    ``key`` names the configuration key or the file, ``origin`` where its value came from.
    """

    message: str
    remedy: str = ""
    key: str = ""
    origin: str = ""

    def __str__(self) -> str:
        head = f"{self.key}: {self.message}" if self.key else self.message
        where = f" (from {self.origin})" if self.origin else ""
        todo = f"\n    -> {self.remedy}" if self.remedy else ""
        return f"{head}{where}{todo}"


class UserError(Exception):
    """Bad input, with one or several problems; a command prints it without traceback and exits
    with code 2."""

    exit_code = EXIT_USER_ERROR

    def __init__(
        self, problems: Problem | Iterable[Problem] | str, remedy: str = "", key: str = ""
    ):
        if isinstance(problems, str):
            problems = Problem(problems, remedy, key)
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{len(self.problems)} problems:"]
        return "\n".join(lines + [f"  {i}. {p}" for i, p in enumerate(self.problems, 1)])

    def __reduce__(self):
        # The default would hand the message to __init__ and lose the list on its way
        # from a loader worker to the main process.
        return (type(self), (self.problems,))


class RunFailure(UserError):
    """A failure that is not bad input: a process died, memory ran out. Exit code 1."""

    exit_code = 1


class VideoError(Exception):
    """A video that cannot be read: ``path`` and ``cause``; DATA.ON_ERROR decides what follows."""

    def __init__(self, path: str, cause: str):
        self.path, self.cause = path, cause
        super().__init__(f"{path}: {cause}")

    def __reduce__(self):
        return (VideoError, (self.path, self.cause))


class Interrupted(Exception):
    """A signal stopped the run; ``saved`` names the checkpoint, if one was written. The exit code
    is 128 + signal."""

    def __init__(self, number: int, saved: str = ""):
        self.number, self.saved = number, saved
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        remedy = f"; {saved} continues it: repeat the same command" if saved else ""
        super().__init__(f"stopped by {name}{remedy}")
