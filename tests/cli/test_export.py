"""Export and probe as commands: those of docs/export.md, and what they refuse."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine.network import build_network
from slowfast.models.weights.files import write_weights
from tests.cli.test_documents import commands
from tests.conftest import ROOT, run_tool
from tests.inference.test_export import WITHOUT

PAGE = (ROOT / "docs/export.md").read_text()


@pytest.fixture(scope="module")
def place(shapes, tmp_path_factory) -> Path:
    """A folder with the run and the data of the page."""
    folder = tmp_path_factory.mktemp("place")
    cfg = load_config(["configs/quickstart/uniformer.yaml"], ["NUM_GPUS", "0"])
    torch.manual_seed(0)
    state = build_network(cfg).state_dict()
    target = folder / "output/mine/checkpoints/checkpoint_best.pyth"
    write_weights(target, state, list("abcdefgh"), cfg.dump())
    for part in ("train", "test"):
        for video in (shapes / "videos" / part).iterdir():
            name = video.name.split("_")[0]
            path = folder / "data/moving_shapes_8/videos" / part / name / video.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, path)
    return folder


def test_commands_of_the_page(place):
    for command in commands("docs/export.md"):
        _, tool, *words = command.split()
        done = run_tool(Path(tool).name, *words, "--debug", cwd=place)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    assert (place / "mine.pt2").stat().st_size > 1e6
    assert "top-1 " in done.stdout and (place / "output/probe/probe.pyth").is_file()


def test_lines_of_the_page(place):
    """As they stand there, without the package; they are those that the command prints."""
    done = run_tool("export.py", "output/mine", "mine.onnx", cwd=place)
    assert done.returncode == 0, done.stderr[-2000:]
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    printed = done.stdout.split("without this package:\n\n")[1]
    assert printed.replace("'", '"') == lines
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT + printed], cwd=place, capture_output=True, text=True
    )
    assert ran.returncode == 0 and "(2, 8) ['a', 'b'" in ran.stdout, ran.stderr


def test_what_is_refused(place):
    for words, message in (
        (["output/mine", "mine.bin"], "OUT: mine.bin says no kind of file"),
        (["output/none", "mine.pt2"], "output/none"),
    ):
        done = run_tool("export.py", *words, cwd=place)
        assert done.returncode == 2 and message in done.stderr and "->" in done.stderr
    videos = "data/moving_shapes_8/videos"
    for words, message in (
        (["--test", "0"], "--test: is 0"),
        (["--out", f"{videos}/probe"], "which is read"),
    ):
        done = run_tool("probe.py", "output/mine", videos, *words, cwd=place)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert not (place / videos / "probe").exists()
    checkpoint = "output/probe/probe.pyth"
    (place / "output/probe").mkdir(exist_ok=True)
    (place / checkpoint).write_bytes(
        (place / "output/mine/checkpoints/checkpoint_best.pyth").read_bytes()
    )
    done = run_tool("probe.py", checkpoint, "data/moving_shapes_8/videos", cwd=place)
    assert done.returncode == 2 and "--out: " in done.stderr and "is read" in done.stderr
