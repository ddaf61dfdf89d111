"""The project of docs/extending.md, run from a folder of its own through the tools."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast.analysis.results import tests_of
from slowfast.models.weights.read import read_checkpoint
from tests.conftest import ROOT
from tests.engine.processes import assert_same_state
from tests.scripts import run_script

HERE = Path(__file__).parent
FILES = (
    "recipe.yaml",
    "mypaper/__init__.py",
    "mypaper/model.py",
    "mypaper/data.py",
    "mypaper/training.py",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory, shapes) -> Path:
    """A copy of the project with lists of the embedded videos."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(HERE / "mypaper", folder / "mypaper")
    shutil.copy(HERE / "recipe.yaml", folder)
    for split in ("train", "val", "test"):
        rows = [line.split() for line in (shapes / f"{split}.csv").read_text().splitlines()]
        names = (shapes / "classes.txt").read_text().split()
        listed = [{"video": video, "class": names[int(label)]} for video, label in rows]
        (folder / f"{split}.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def tool(project, shapes):
    """Runs a tool of the clone from the project's folder."""

    def run(name: str, *args, launcher: tuple[str, ...] = (), words: tuple = ()):
        data = [
            *map(str, words),
            "DATA.PATH_TO_DATA_DIR",
            str(project),
            "DATA.PATH_PREFIX",
            str(shapes),
        ]
        script, env = ROOT / "tools" / f"{name}.py", os.environ | {"OMP_NUM_THREADS": "1"}
        if launcher:
            command = [sys.executable, *launcher, str(script), *map(str, args), *data]
            done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
        else:
            done = run_script(script, *args, *data, cwd=project, env=env)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout + done.stderr

    return run


def newest(out: Path) -> dict:
    return read_checkpoint(sorted((out / "checkpoints").glob("checkpoint_epoch_*.pyth"))[-1])


@pytest.fixture(scope="module")
def finished(project, shapes) -> Path:
    """A finished run of the recipe."""
    out = project / "out"
    values = ["DATA.PATH_TO_DATA_DIR", project, "DATA.PATH_PREFIX", shapes, "OUTPUT_DIR", out]
    script = ROOT / "tools" / "run_net.py"
    done = run_script(script, "--cfg", "recipe.yaml", *values, cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_everything_of_the_project_is_used(finished):
    lines = [json.loads(line) for line in (finished / "stats.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["_type"] == "val_epoch"]
    assert len(validations) == 2 and "worst_class_accuracy" in validations[0]
    assert "worst_class_accuracy" in lines[-1] and lines[-1]["videos"] == 8
    curve = (finished / "curve.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["2", "4"]
    (test,) = tests_of(finished)
    assert {row["label_name"] for row in test.predictions()} == {"left", "right", "up", "down"}
    assert "worst_class_accuracy" in test.figures
    content = newest(finished)
    assert "convs.0.weight" in content["model_state"]
    assert content["class_names"] == ["down", "left", "right", "up"]


def test_resuming_is_exact(finished, project, tool):
    out = project / "stopped"
    shutil.copytree(finished, out)
    (out / "checkpoints" / "checkpoint_epoch_00002.pyth").unlink()
    text = tool("run_net", "--cfg", "recipe.yaml", "OUTPUT_DIR", out, "TEST.ENABLE", False)
    assert "resuming from" in text
    assert_same_state(newest(out), newest(finished))


def test_a_test_alone(finished, project, tool):
    """The configuration that a run leaves behind imports the project by itself."""
    text = tool(
        "run_net", "--cfg", finished / "config.yaml", "TRAIN.ENABLE", False, "OUTPUT_DIR", finished
    )
    assert "worst_class_accuracy" in text


def test_two_processes(project, tool):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    out = project / "two"
    tool(
        "run_net",
        "--cfg",
        "recipe.yaml",
        "OUTPUT_DIR",
        out,
        "SOLVER.MAX_EPOCH",
        1,
        launcher=launcher,
    )
    assert newest(out)["world"] == 2


def test_tools_know_the_project(project, tool):
    tool("show_data", "--cfg", "recipe.yaml", "--out", project / "sheet.png", "--videos", 2)
    assert (project / "sheet.png").stat().st_size > 1000
    tool("check_data", "--cfg", "recipe.yaml", "--out", project / "checked")
    summary = json.loads((project / "checked" / "summary.json").read_text())
    assert len(summary["lists"]) == 3
    assert "| recipe.yaml" in tool("model_table", "recipe.yaml")


def test_a_head_for_frames(project, tool):
    out = project / "head"
    tool(
        "run_net",
        "--cfg",
        "recipe.yaml",
        "OUTPUT_DIR",
        out,
        "SOLVER.MAX_EPOCH",
        1,
        "MODEL.MODEL_NAME",
        "TSN",
        "TSN.BACKBONE",
        "timm/test_efficientnet",
        "TSN.CONSENSUS",
        "Max",
        "TSN.FEATURE_DIM",
        16,
    )
    assert "consensus.fc.weight" in newest(out)["model_state"]


def test_a_sweep(project, tool):
    tool(
        "sweep",
        "--out",
        project / "sweep",
        "--cfg",
        "recipe.yaml",
        "--seeds",
        "0",
        "--",
        words=("SOLVER.MAX_EPOCH", 1),
    )
    assert (project / "sweep" / "table.md").is_file()


def test_networks_by_name(project):
    code = (
        "import mypaper, slowfast, torch; print(slowfast.list_models('shift*'));"
        "model = slowfast.create_model('shiftnet_wide', num_classes=3);"
        "print(tuple(model(torch.zeros(1, 3, 4, 32, 32)).shape))"
    )
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{project}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['shiftnet', 'shiftnet_wide']", "(1, 3)"], done.stderr


def test_the_page_shows_these_files():
    page = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.S)
    for name in FILES:
        text = (HERE / name).read_text()
        assert text in blocks, f"docs/extending.md does not show {name} as it is"
    code = [line for name in FILES[1:] for line in (HERE / name).read_text().splitlines() if line]
    assert len(code) <= 105


def test_extra_fields_reach_the_batch(project, shapes, monkeypatch):
    from slowfast.config.load import load_config
    from slowfast.datasets.loader import construct_loader

    monkeypatch.chdir(project)
    words = ["DATA.PATH_TO_DATA_DIR", str(project), "DATA.PATH_PREFIX", str(shapes)]
    batch = next(iter(construct_loader(load_config(["recipe.yaml"], words), "val")))
    assert batch.extra["name"] == [Path(path).stem for path in batch.path]
    assert isinstance(batch.video, torch.Tensor)
