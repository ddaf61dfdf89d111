"""Videos that could not be read: named once, counted, listed, and never too many."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets.base import BadItem, VideoDataset
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

FILE_NAME = "bad_items.tsv"


class BadItems:
    """Counts the unreadable videos of one pass and lists each in ``bad_items.tsv`` once.

    All processes are told of all bad items, so that all stop together; one of them ``writes``.
    """

    def __init__(
        self, output_dir: str | Path, source: str, total: int, limit: float, writes: bool = True
    ):
        self._file = Path(output_dir) / FILE_NAME
        self._source, self._total, self._limit = source, total, limit
        self._writes = writes
        self._named: set[str] = set()
        self._listed = set(self._file.read_text().splitlines()) if self._file.is_file() else set()
        self.count = 0

    @classmethod
    def of(cls, cfg: CfgNode, dataset: VideoDataset, writes: bool) -> BadItems:
        """For the list of a data set, with the share that the configuration permits."""
        share = cfg.DATA.MAX_ERROR_SHARE
        return cls(cfg.OUTPUT_DIR, dataset.list.source, dataset.videos_per_pass, share, writes)

    def start_pass(self, count: int = 0) -> None:
        """Begin to count anew (an epoch), or from where a stopped one was."""
        self.count = count

    def add(self, items: list[BadItem]) -> None:
        """Take note of bad items; UserError above the permitted share."""
        self.count += len(items)
        for item in items:
            if item.path not in self._named:
                self._named.add(item.path)
                self._name(item)
        if self.count > self._limit * self._total:
            raise UserError(
                f"{self.count} of {self._total} videos of {self._source} cannot be read",
                f"see {self._file}; repair the set (tools/check_data.py) or raise "
                "DATA.MAX_ERROR_SHARE",
                "DATA.MAX_ERROR_SHARE",
            )

    def _name(self, item: BadItem) -> None:
        if not self._writes:
            return
        logger.warning("%s:%d: %s: %s", self._source, item.line, item.path, item.cause)
        line = f"{self._source}\t{item.line}\t{item.path}\t{' '.join(item.cause.split())}"
        if line not in self._listed:
            self._listed.add(line)
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(line + "\n")
