"""The published numbers: every case that the project carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from slowfast.analysis.parity import find_cases, run_file
from tests.conftest import run_tool

CASES = Path(__file__).parent / "cases"
FILES = sorted(find_cases([CASES]))
# Tables of the reference's own generators, of its faults, and of parts we leave out.
UNUSED = {
    "clip_indices_pyav",
    "erasing",
    "jitter_crop_flip",
    "randaugment_draws",
    "resized_crop",
    "view_merge_faults",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_case(path):
    result = run_file(path)
    if path.stem in UNUSED:
        assert not result.required
    else:
        assert result.passed, str(result)


def test_wrong_numbers_fail(tmp_path):
    """The tool must be able to fail: one changed logit, one changed index."""
    name = "uniformer_tiny_8x64"
    shutil.copy(CASES / "uniformer" / f"{name}.json", tmp_path)
    with np.load(CASES / "uniformer" / f"{name}.npz") as stored:
        outputs = dict(stored)
    outputs["logits"][0, 0] += 0.02
    np.savez(tmp_path / f"{name}.npz", **outputs)
    table = json.loads((CASES / "framework" / "tsn_segments.json").read_text())
    table["rows"][0]["test_from_1"][3] += 1
    (tmp_path / "table.json").write_text(json.dumps(table))
    done = run_tool("parity.py", tmp_path, CASES / "framework" / "topk.json")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 passed, 2 failed"
    assert "logits differs by" in done.stdout


def test_missing_path():
    done = run_tool("parity.py", "nowhere")
    assert done.returncode == 2 and "there is no nowhere" in done.stderr
    done = run_tool("parity.py", "README.md")
    assert done.returncode == 2 and "README.md is not valid JSON" in done.stderr
