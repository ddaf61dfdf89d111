"""One way to work on many items: :func:`map_items`, over processes, machines and jobs."""

from slowfast.utils.map.journal import file_stamp
from slowfast.utils.map.mapping import HERE, Where, map_items, write_failures
from slowfast.utils.map.share import Share
from slowfast.utils.map.work import CRASHED, Each, Result, Work

__all__ = [
    "CRASHED",
    "HERE",
    "Each",
    "Result",
    "Share",
    "Where",
    "Work",
    "file_stamp",
    "map_items",
    "write_failures",
]
