"""tools/sweep.py."""

from __future__ import annotations

import json

import cv2
import pytest

from tests.conftest import ROOT, TINY, run_tool, words


def test_sweep(shapes, tmp_path):
    """A head, two seeds: a table, numbers, a picture; finished runs are kept."""
    tiny = TINY | {
        "TSN.FEATURE_DIM": 8,
        "DATA.PATH_TO_DATA_DIR": shapes,
        "SOLVER.MAX_EPOCH": 1,
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"_BASE_: {ROOT}/configs/quickstart/heads.yaml\n")
    command = [
        "sweep.py",
        "--out",
        tmp_path,
        "--cfg",
        recipe,
        "--seeds",
        "0",
        "1",
        "--vary",
        "TSN.CONSENSUS",
        "MLP",
        "--",
        *words(tiny),
        "DATA.PATH_PREFIX",
        "",
    ]
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["name"] for row in rows] == ["MLP"]
    assert all(row["seeds"] == [0, 1] and min(row["cpu_seconds"]) > 0 for row in rows)
    stats = (tmp_path / "MLP" / "seed_1" / "stats.jsonl").read_text().splitlines()
    assert float(json.loads(stats[-1])["top1_acc"]) == rows[0]["top1"][1]
    assert done.stdout.count("\n") == 3 and "± " in done.stdout
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[2].startswith(f"MLP,,1,{rows[0]['top1'][1]},,")
    assert rows[0]["gflops"] > 0 and 0 < rows[0]["parameters"] < 1
    assert cv2.imread(str(tmp_path / "plot.png")).shape[1] > 400
    before = (tmp_path / "MLP" / "seed_1" / "console.txt").stat().st_mtime_ns
    assert run_tool(*command).returncode == 0
    assert (tmp_path / "MLP" / "seed_1" / "console.txt").stat().st_mtime_ns == before
    with open(recipe, "a") as file:  # the same command, another recipe: no old result is taken
        file.write("TSN: {HEAD_DROPOUT: 0.3}\n")
    changed = run_tool(*command)
    assert changed.returncode == 1 and "2 of 2 runs failed" in changed.stderr, changed.stderr
    assert "TSN.HEAD_DROPOUT" in (tmp_path / "MLP" / "seed_1" / "console.txt").read_text()


def test_sweep_of_a_part_of_a_file_of_rows(shapes, tmp_path):
    """One row, without a report; its table goes into a page once the report is there."""
    rows = [
        {"name": f"width {n}", "cfg": "quickstart/frame_average", "words": f"{key} [{n}]"}
        for n, key in ((4, "FRAME_AVERAGE.WIDTHS"), (8, "FRAME_AVERAGE.WIDTHS"))
    ]
    (tmp_path / "rows.yaml").write_text(json.dumps(rows))
    tiny = TINY | {"DATA.PATH_TO_DATA_DIR": shapes, "SOLVER.MAX_EPOCH": 1}
    tiny |= {"TRAIN.DATASET": "moving_shapes", "TEST.DATASET": "moving_shapes"}
    out = tmp_path / "out"
    command = ["sweep.py", "--out", out, "--variants", tmp_path / "rows.yaml", "--seeds", "0"]
    done = run_tool(*command, "--rows", "width 8", "--", *words(tiny))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.iterdir()] == ["width_8"] and "| width 8 |" in done.stdout
    done = run_tool(*command, "--only", "1/2", "--", *words(tiny))
    assert done.returncode == 0 and not done.stdout
    assert run_tool(*command, "--", *words(tiny)).returncode == 0
    assert (out / "table.md").read_text().count("| width") == 2
    page = out / "page.md"
    page.write_text("<!-- table of runs.csv -->\n")
    assert run_tool("sweep.py", "--fill", page).returncode == 0
    assert page.read_text().endswith((out / "table.md").read_text())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the rows are missing"),
        (["--cfg", "a.yaml", "--variants", "b.yaml"], "the rows are missing"),
        (["--variants", "b.yaml", "--vary", "KEY", "1"], "takes no --vary"),
        (["--cfg", "a.yaml"], "the folder to write to is missing"),
        (["--variants", "b.yaml", "--out", "out"], "b.yaml cannot be read"),
    ],
)
def test_sweep_mistakes(arguments, message, tmp_path):
    done = run_tool("sweep.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
