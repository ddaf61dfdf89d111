"""The page that runs leave, and the command that writes it again."""

from __future__ import annotations

import csv
import importlib.metadata
import re

import pytest
import yaml

from slowfast.engine import launch
from slowfast.engine.launches import read_launches
from tests.analysis.report.folders import write_test
from tests.cli.test_documents import commands
from tests.conftest import run_tool


@pytest.fixture
def recipe(tmp_path, tiny_words):
    """A configuration file of a run that trains for an epoch, tests, and writes its page."""
    tree: dict = {}
    values = {"REPORT.ENABLE": True, "SOLVER.MAX_EPOCH": 1, "REPORT.VIDEOS": 4}
    for key, value in (tiny_words | values).items():
        node = tree
        *sections, leaf = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "recipe.yaml"


def test_a_run_leaves_its_page(recipe, tmp_path):
    out = tmp_path / "out"
    done = run_tool("run_net.py", "--cfg", recipe, "RNG_SEED", "3")
    assert done.returncode == 0, done.stderr
    assert f"page: {out / 'report.html'}" in done.stderr
    text = (out / "report.html").read_text()
    (test,) = (out / "tests").iterdir()
    rows = list(csv.DictReader((test / "predictions.csv").open()))
    right = sum(row["correct"] == "1" for row in rows)
    assert f"<dd>{100 * right / len(rows):.2f} %" in text
    assert len(re.findall(r'class="clip" data-label', text)) == 4
    assert "Training clips, augmented" in text and "Views of test videos" in text
    own = re.findall(r'<tr class="own"><td><code>([\w.]+)', text)
    assert own[0] == "RNG_SEED" and "DATA.NUM_FRAMES" in own and "STFM.DENSE" not in own
    assert f"torch {importlib.metadata.version('torch')}" in text
    (facts,) = read_launches(out)
    assert facts["outcome"] == "finished" and facts["command"][-2:] == ["RNG_SEED", "3"]
    # The page is written again, elsewhere, from another folder.
    again = run_tool("report.py", out, "--out", tmp_path / "again.html", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "again.html: " in again.stdout
    assert (tmp_path / "again.html").read_text() == text


def test_a_page_that_fails_does_not_fail_the_run(recipe, tmp_path):
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)
    done = run_tool("run_net.py", "--cfg", recipe)
    assert done.returncode == 0, done.stderr
    assert "the page of the run could not be written: " in done.stderr
    assert f"python tools/report.py {out}" in done.stderr
    assert len(list((out / "tests").iterdir())) == 1
    (out / "report.html").rmdir()
    repeated = run_tool("report.py", out)
    assert repeated.returncode == 0 and (out / "report.html").is_file(), repeated.stderr


def test_commands_of_the_document(tmp_path):
    for name in ("mine", "mine_2"):
        write_test(tmp_path / "output" / name, ["x", "y"], [0, 1], [0, 0])
    shown = commands("docs/report.md")
    assert len(shown) == 2
    for command in shown:
        _, script, *rest = command.split()
        done = run_tool(script.removeprefix("tools/"), *rest, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_comparison_and_bad_words(tmp_path):
    for name, guesses in (("a", [0, 1]), ("b", [1, 1])):
        write_test(tmp_path / name, ["x", "y"], [0, 1], guesses)
    done = run_tool("report.py", "a", "b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Comparison of a, b" in (tmp_path / "comparison.html").read_text()
    done = run_tool("report.py", "absent", cwd=tmp_path)
    assert done.returncode == 2 and "absent holds no run" in done.stderr


@pytest.mark.parametrize(
    "env, shard, first",
    [
        ({}, 0, True),
        ({}, 1, False),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 0, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, 0, False),
    ],
)
def test_one_process_writes_the_page(env, shard, first, make_cfg, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    cfg = make_cfg({"NUM_SHARDS": 2, "SHARD_ID": shard})
    assert launch.is_first_process(cfg) == first
