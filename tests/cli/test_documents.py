"""Every command that the documents show is run, in order, in a copy of the project."""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import slowfast
from slowfast.config.load import load_config
from slowfast.datasets.moving_shapes import ShapesSpec, generate
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models import MODEL_REGISTRY
from tests.conftest import ROOT, TINY, words
from tests.fewshot import TINY_FEWSHOT
from tests.scripts import run_script

DOCUMENTS = (
    "README.md",
    "INSTALL.md",
    "DATASET.md",
    "CONTRIBUTING.md",
    "docs/benchmarks.md",
    "docs/migration.md",
    "docs/visualize.md",
    "docs/report.md",
    "docs/many_videos.md",
)
# Makes a training of the documents a matter of seconds.
QUICK = {
    k: v
    for k, v in TINY.items()
    if k.startswith(("SOLVER", "UNIFORMER", "LOG_", "DATA_L", "REPORT"))
}
QUICK |= {"SOLVER.MAX_EPOCH": 1, "TRAIN.BATCH_SIZE": 2, "STFM.NUM_TOKENS": 2}
# Not run here: they install packages, or they are this very suite, or need an absent device.
ELSEWHERE = (
    "bash tools/run_tests.sh",
    "pip install",
    "python3 -m venv",
    ". .venv/bin/activate",
    "bash exp/quickstart/run.sh",
)


def commands(document: str) -> list[str]:
    """The lines of the document's bash blocks, continued lines joined."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def copy(tmp_path):
    """A copy of the project with a tiny embedded set where the documents expect one."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("slowfast", "tools", "configs", "exp", "pretrained", "docs", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pth", "*.pyth")
            shutil.copytree(source, project / name, ignore=ignored)
        else:
            shutil.copy(source, project / name)
    (project / "tests" / "parity").mkdir(parents=True)
    (project / "tests" / "parity" / "cases").symlink_to(ROOT / "tests" / "parity" / "cases")
    spec = ShapesSpec(classes=8, train=3, val=1, test=1)
    generate(project / "data" / "moving_shapes_8", spec, workers=1, progress=False)
    return project


def is_training(command: str) -> bool:
    return "run_net.py" in command and not re.search(r"--(help|explain|print-config)", command)


def run(command: str, project: Path) -> subprocess.CompletedProcess:
    words = shlex.split(command)
    if (
        words[:1] == ["python"]
        and words[1].startswith("tools/")
        and not set(command) & set("&|;$*")
    ):
        return run_script(project / words[1], *words[2:], cwd=project)
    # The interpreter of the tests, wherever a command says python.
    folder = project / "bin"
    folder.mkdir(exist_ok=True)
    link = folder / "python"
    if not link.exists():
        link.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        link.chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": str(link)}
    return subprocess.run(
        ["bash", "-ec", command], cwd=project, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "document",
    [
        *(d for d in DOCUMENTS if not d.startswith("docs/")),
        "docs/visualize.md",
        "docs/many_videos.md",
    ],
)
def test_commands_of(document, copy):
    done_here = 0
    for command in commands(document):
        if command.startswith(ELSEWHERE):
            continue
        if is_training(command):
            command += " " + " ".join(f"'{w}'" for w in words(QUICK))
        if "make_moving_shapes" in command:
            command = re.sub(r"--(train|val|test) \d+", "", command)
            command = command.replace("data/", "made/") + " --train 1 --val 1 --test 1"
        if "parity.py" in command:  # all of them run in tests/parity
            command = command.replace("cases/framework", "cases").replace(
                "tests/parity/cases", "tests/parity/cases/framework/topk.json"
            )
        result = run(command, copy)
        assert result.returncode == 0, (
            f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        )
        done_here += 1
    assert done_here or document == "CONTRIBUTING.md"


def test_files_that_documents_name_exist():
    further = (
        "differences",
        "reliability",
        "extending",
        "architecture",
        "export",
        "finetune",
        "python",
        "embeddings",
    )
    for document in (*DOCUMENTS, *(f"docs/{name}.md" for name in further)):
        text = (ROOT / document).read_text()
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert ((ROOT / document).parent / link).exists(), f"{document} -> {link}"
        for name in re.findall(r"`((?:tools|exp|configs|tests|slowfast)/[\w./-]+\.\w+)`", text):
            if "/test" not in name and "/run" not in name:
                assert (ROOT / name).exists(), f"{document} names {name}"


def test_tests_that_guarantees_name_exist():
    tests = " ".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"`(test_\w+)[`\[]", (ROOT / "docs/reliability.md").read_text())
    assert len(names) > 10
    assert not [name for name in names if f"def {name}(" not in tests]


def test_python_names_that_replace_those_of_pyslowfast_exist():
    page = (ROOT / "docs/migration.md").read_text()
    table = page.split("### Python imports")[1].split("\n## ")[0]
    replacements = " ".join(row.split(" | ")[1] for row in table.splitlines() if " | " in row)
    names = set(re.findall(r"`(slowfast\.\w+\.[\w.]+)`", replacements))
    assert len(names) > 30
    for name in sorted(names):
        pkgutil.resolve_name(name)


def test_models_and_sets_of_the_documents_are_registered():
    from slowfast.datasets.base import DATASET_REGISTRY

    table = (ROOT / "DATASET.md").read_text()
    own = [
        n for n in DATASET_REGISTRY if DATASET_REGISTRY.get(n).__module__.startswith("slowfast.")
    ]
    assert len(own) > 5  # further ones are those of other tests
    for name in own:
        assert f"| `{name}` |" in table, name


def test_every_tool_explains_itself():
    for tool in sorted((ROOT / "tools").glob("[a-z]*.py")):
        done = run_script(tool, "--help", cwd=ROOT)
        assert done.returncode == 0, tool
        assert "example" in done.stdout, f"{tool.name} --help shows no example"


def test_the_lines_of_python(shapes, compositions, tmp_path, monkeypatch):
    """Those of docs/python.md and README, with tiny networks and videos under their names."""
    clip = MODEL_REGISTRY.get("TemporalClipVideo").spec.test_overrides
    train_tiny(shapes, tmp_path / "output/mine")
    train_tiny(shapes, tmp_path / "clip", clip | {"MODEL.MODEL_NAME": "TemporalClipVideo"})
    few = TINY_FEWSHOT | {"FEWSHOT.METHOD": "prototype", "TRAIN.DATASET": "kinetics"}
    few |= {"DATA.PATH_TO_DATA_DIR": compositions, "DATA.PATH_PREFIX": compositions / "videos"}
    few |= {"FEWSHOT.TRAIN_EPISODES": 1, "FEWSHOT.VAL_EPISODES": 1, "MODEL.NUM_CLASSES": 5}
    train_tiny(shapes, tmp_path / "fewshot", few)
    for name in ("clip", "fewshot"):
        best = tmp_path / name / "checkpoints/checkpoint_best.pyth"
        shutil.copy(best, tmp_path / f"{name}.pyth")
    for name in ("left_0000", "up_0000"):
        target = {"left_0000": "video.mp4", "up_0000": "long.mp4"}[name]
        shutil.copy(shapes / f"videos/test/{name}.mp4", tmp_path / target)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)
    assert len(block.strip().splitlines()) <= 13
    names = {"frames": np.zeros((8, 40, 40, 3), np.uint8), "paths": ["video.mp4", "long.mp4"]}
    exec(block, names)
    assert len(names["answers"]) == 3 and not any(answer.error for answer in names["answers"])
    assert names["features"].shape[0] == len(names["table"]) == 2
    assert names["scores"].shape == (6, 4) and names["changes"][0][0][0] == 0.0
    assert names["clip"].classes == ["feeding a cat", "washing a dog"]
    assert names["fewshot"].predict("video.mp4").labels[0] == "jump"
    first, second = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(first, names)
    assert len(names["answer"].labels) == 3
    weights = slowfast.create_model("uniformer_s", num_classes=7).state_dict()
    torch.save(weights, "uniformer_small_k400_16x4.pth")
    names["video"] = torch.zeros(1, 3, 4, 32, 32)
    exec(second, names)
    assert names["logits"].shape == (1, 5)


def train_tiny(shapes: Path, out: Path, extra: dict | None = None) -> None:
    """Train a tiny network of the moving shapes, or of what ``extra`` says."""
    values = TINY | {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "TEST.ENABLE": False,
        "DATA.PATH_TO_DATA_DIR": shapes,
        "DATA.CLASS_NAMES": ["left", "right", "up", "down"],
        "OUTPUT_DIR": out,
    }
    launch(load_config(overrides=words(values | (extra or {}) | {"SOLVER.MAX_EPOCH": 1})), run_job)
