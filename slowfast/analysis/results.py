"""Reading what runs have written into their output folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slowfast.utils.errors import RunFailure


def read_stats(out: Path, kind: str = "") -> list[dict[str, Any]]:
    """Lines of ``stats.jsonl`` (of one ``_type``); a line being written is left out."""
    file = out / "stats.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}\n")]
    return [row for row in rows if not kind or row["_type"] == kind]


def read_result(out: Path) -> dict[str, float]:
    """``top1`` of the last test of a run in percent, and ``interval``: half its 95 % interval over
    episodes, 0 if the test is not few-shot."""
    tests = [row for row in read_stats(out) if row.get("split") == "test_final"]
    if not tests:
        raise RunFailure(f"{out} holds no result of a test", "is TEST.ENABLE True?")
    last = tests[-1]
    return {"top1": float(last["top1_acc"]), "interval": float(last.get("interval", 0))}
