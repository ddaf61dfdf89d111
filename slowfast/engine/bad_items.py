"""Videos that could not be read: named once, counted, listed, and never too many."""

from __future__ import annotations

from pathlib import Path

from slowfast.datasets.base import BadItem
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


class BadItems:
    """Counts the unreadable videos of one pass and lists each in ``bad_items.tsv`` once."""

    def __init__(self, output_dir: str | Path, source: str, total: int, limit: float):
        self._file = Path(output_dir) / "bad_items.tsv"
        self._source, self._total, self._limit = source, total, limit
        self._known: set[str] = set()
        self.count = 0

    def start_pass(self) -> None:
        """Begin to count anew (an epoch)."""
        self.count = 0

    def add(self, items: list[BadItem]) -> None:
        """Take note of bad items; UserError above the permitted share."""
        self.count += len(items)
        for item in items:
            if item.path in self._known:
                continue
            self._known.add(item.path)
            logger.warning("%s:%d: %s: %s", self._source, item.line, item.path, item.cause)
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(f"{self._source}\t{item.line}\t{item.path}\t{item.cause}\n")
        if self.count > self._limit * self._total:
            raise UserError(
                f"{self.count} of {self._total} videos of {self._source} cannot be read",
                f"see {self._file}; repair the set or raise DATA.MAX_ERROR_SHARE",
                "DATA.MAX_ERROR_SHARE",
            )
