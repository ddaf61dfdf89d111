"""Bookkeeping of unreadable videos; a run stops above DATA.MAX_ERROR_SHARE of them."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets.base import VideoDataset
from slowfast.datasets.batch import BadItem
from slowfast.datasets.items import locate
from slowfast.utils.errors import UserError
from slowfast.utils.files import append_line
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

FILE_NAME = "bad_items.tsv"


class UnreadableVideos:
    """Counts the unreadable videos of one pass and lists each in ``bad_items.tsv`` once.

    All processes record the bad items of all, so that all stop together; the one that
    ``is_writer`` logs and lists them.
    """

    def __init__(
        self, output_dir: str | Path, source: str, total: int, limit: float, is_writer: bool = True
    ):
        self._file = Path(output_dir) / FILE_NAME
        self._source, self._total, self._limit = source, total, limit
        self._is_writer = is_writer
        self._reported: set[str] = set()
        self._listed = set(self._file.read_text().splitlines()) if self._file.is_file() else set()
        self.count = 0

    @classmethod
    def for_dataset(cls, cfg: CfgNode, dataset: VideoDataset, is_writer: bool) -> UnreadableVideos:
        """For the list of a data set, with the share that the configuration permits."""
        share = cfg.DATA.MAX_ERROR_SHARE
        source = dataset.item_list.source
        return cls(cfg.OUTPUT_DIR, source, dataset.videos_per_pass, share, is_writer)

    def start_pass(self, count: int = 0) -> None:
        """Start to count at 0 (an epoch), or at the count of an interrupted epoch."""
        self.count = count

    def record(self, items: list[BadItem]) -> None:
        """Count bad items; UserError above the permitted share."""
        self.count += len(items)
        for item in items:
            if item.path not in self._reported:
                self._reported.add(item.path)
                self._report(item)
        if self.count > self._limit * self._total:
            raise UserError(
                f"{self.count} of {self._total} videos of {self._source} cannot be read",
                f"see {self._file}; repair the set (tools/check_data.py) or raise "
                "DATA.MAX_ERROR_SHARE",
                "DATA.MAX_ERROR_SHARE",
            )

    def _report(self, item: BadItem) -> None:
        if not self._is_writer:
            return
        logger.warning("%s: %s", locate(self._source, item), item.cause)
        line = f"{self._source}\t{item.line}\t{item.path}\t{' '.join(item.cause.split())}"
        if line not in self._listed:
            self._listed.add(line)
            append_line(self._file, line)
