"""Logging: console and ``stdout.log`` for people, ``json_stats`` lines for programs."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import simplejson
from tqdm import tqdm

from slowfast.utils.console import give_up_output
from slowfast.utils.files import append_line, failure_of
from slowfast.utils.json_text import with_finite_numbers

_FORMAT = "[%(asctime)s][%(levelname)s] %(filename)s: %(lineno)d: %(message)s"
_DATE = "%m/%d %H:%M:%S"
_PACKAGE = "slowfast"
_EPOCH_TYPES = ("train_epoch", "val_epoch", "test_final")


class _ConsoleHandler(logging.Handler):
    """Writes through tqdm so that a progress bar stays the last line of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        on_terminal = sys.stdout.isatty()
        if on_terminal and getattr(record, "file_only_on_terminal", False):
            return
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:
            # Closed, full, or the reader of a pipe has gone: the log file goes on.
            give_up_output()
            logging.getLogger(_PACKAGE).warning(
                "standard output cannot be written (%s): messages go to the log file only",
                error.strerror,
            )


class _FileHandler(logging.FileHandler):
    """A log file; a message that cannot be written is an error, not a traceback on the console."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise failure_of(error, self.baseFilename, "OUTPUT_DIR", "write") from error
        super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # said when the message was written
            super().close()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: ``get_logger(__name__)``."""
    return logging.getLogger(name)


def setup_logging(output_dir: str | Path | None, is_main: bool = True, rank: int = 0) -> None:
    """Send the package's messages to the console and to ``output_dir/stdout.log``.

    Ranks other than the main one write warnings only, to ``stdout_rank<r>.log``. The root logger
    gets no messages meanwhile, since its handlers would print them a second time.
    """
    logger = logging.getLogger(_PACKAGE)
    close_logging()
    logger.propagate = False
    logger.setLevel(logging.INFO if is_main else logging.WARNING)
    handlers: list[logging.Handler] = []
    if is_main:
        handlers.append(_ConsoleHandler())
        handlers[0].setFormatter(logging.Formatter("%(message)s"))
    if output_dir is not None:
        name = "stdout.log" if is_main else f"stdout_rank{rank}.log"
        file = _FileHandler(
            Path(output_dir) / name, encoding="utf-8", errors="backslashreplace", delay=not is_main
        )
        file.setFormatter(logging.Formatter(_FORMAT, _DATE))
        handlers.append(file)
    for handler in handlers:
        logger.addHandler(handler)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Context that collects what the package warns of meanwhile, besides showing it."""
    texts: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logger = logging.getLogger(_PACKAGE)
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)


def close_logging() -> None:
    """Undo :func:`setup_logging`: close its handlers; messages go to Python's root logger again."""
    logger = logging.getLogger(_PACKAGE)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and abs(value) < 1e30:
        return decimal.Decimal(f"{value:.5f}")
    return str(value) if isinstance(value, float) else with_finite_numbers(value)


def format_json_stats(stats: dict[str, Any]) -> str:
    """``json_stats: {...}`` as PySlowFast writes it: keys sorted, floats with five decimals."""
    text = simplejson.dumps(
        {k: _plain(v) for k, v in stats.items()}, sort_keys=True, use_decimal=True, allow_nan=False
    )
    return f"json_stats: {text}"


def log_json_stats(stats: dict[str, Any], output_dir: str | Path | None = None) -> None:
    """Log ``stats`` as one line; append it to ``stats.jsonl`` (epoch lines: ``json_stats.log``)."""
    line = format_json_stats(stats)
    is_epoch = stats.get("_type") in _EPOCH_TYPES
    # On a terminal the progress bar shows the same; programs read the file.
    logging.getLogger(_PACKAGE).info(line, extra={"file_only_on_terminal": not is_epoch})
    if output_dir is None:
        return
    append_line(Path(output_dir) / "stats.jsonl", line.removeprefix("json_stats: "))
    if is_epoch:
        append_line(Path(output_dir) / "json_stats.log", line)


def format_eta(seconds: float) -> str:
    """Seconds as ``h:mm:ss``."""
    return str(datetime.timedelta(seconds=int(max(seconds, 0))))
