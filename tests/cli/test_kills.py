"""A tool that is killed at any moment and called again leaves the files of one left alone."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import av
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.datasets.moving_shapes import ShapesSpec, generate
from slowfast.models.build import build_model
from slowfast.models.weights.files import write_weights
from tests.analysis.test_text_prompts import KEY, Stub, good
from tests.conftest import ROOT
from tests.models.helpers import build
from tests.scripts import CONTEXT, enter_process


def _kill_at(number: int, when: str, counter: str) -> None:
    """End the tool, and its process that does so, at the ``number``-th file that it or one of its
    processes begins (videos) or gives its name: the moments at which what is on the disk changes."""
    tool, replace, av_open = os.getpid(), os.replace, av.open

    def step(action):
        with open(counter, "ab") as file:
            file.write(b".")
            mine = file.tell() == number
        if mine and when == "before":
            end()
        result = action()
        if mine:
            end()
        return result

    def end():
        os.kill(tool, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = lambda *paths: step(lambda: replace(*paths))
    av.open = lambda *words, **options: (
        step(lambda: av_open(*words, **options)) if "w" in words else av_open(*words, **options)
    )


def _run(argv: list[str], cwd: str, env: dict[str, str], number: int, when: str) -> None:
    log, counter = os.path.join(cwd, "log"), os.path.join(cwd, "counter")
    enter_process(env, log, log)
    os.chdir(cwd)
    if number:
        _kill_at(number, when, counter)
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    runpy.run_path(argv[0], run_name="__main__")


def call(script: Path, words: list[str], cwd: Path, env: dict, number: int = 0, when: str = ""):
    """Run a script in ``cwd``, killed at its ``number``-th file. Gives the exit code."""
    arguments = ([str(script), *words], str(cwd), os.environ | env, number, when)
    process = CONTEXT.Process(target=_run, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


TRAINER = """
import json, sys, pathlib
out = pathlib.Path(sys.argv[sys.argv.index("OUTPUT_DIR") + 1])
row = {"_type": "test", "split": "test_final", "top1_acc": 50.0}
(out / "stats.jsonl").write_text(json.dumps(row) + "\\n")
"""
SWEEP = """
from slowfast.analysis.sweep import report, runs, variants
rows = variants.make_variants(["tiny.yaml"], "", [])
sweep = runs.Sweep(["trainer.py"], "out", ["NUM_GPUS", "0"])
rows = sweep.run(rows, [0, 1], 1, 1)
for row in rows:
    row.cpu_seconds[:], row.gflops = [0.0, 0.0], 1.0
report.write_report(rows, sweep.folder, 25.0)
"""
EXPERIMENTS = """
import pathlib, slowfast.analysis.experiments as experiments
experiments.index_page = lambda root, recipes: "the page"
experiments.write_files(pathlib.Path("out"))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with something for every tool to read."""
    folder = tmp_path_factory.mktemp("tools")
    generate(folder / "set", ShapesSpec(2, 2, 1, 1), workers=1, progress=False)
    for number, name in enumerate("abcd"):
        for label in ("run", "jump"):
            (folder / "classes" / label).mkdir(parents=True, exist_ok=True)
            video = folder / f"set/videos/train/left_{number % 2:04d}.mp4"
            shutil.copy(video, folder / f"classes/{label}/{name}.mp4")
    checkpoints = folder / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for epoch in (1, 2):
        state = {"weight": torch.full((3,), float(epoch))}
        torch.save({"model_state": state}, checkpoints / f"checkpoint_epoch_{epoch:05d}.pyth")
    cfg, model = build("FrameAverage", {"TRAIN.MIXED_PRECISION": False})
    write_weights(folder / "net.pyth", model.state_dict(), list("abcde"), cfg.dump())
    row = {"_type": "test", "split": "test_final", "top1_acc": 50.0}
    (folder / "run" / "stats.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "classes.txt").write_text("abseiling\nbowling\n")
    (folder / "tiny.yaml").write_text(
        "NUM_GPUS: 0\nTRAIN: {DATASET: moving_shapes}\nTEST: {DATASET: moving_shapes}\n"
        "MODEL: {NUM_CLASSES: 2}\n"
        "DATA: {PATH_TO_DATA_DIR: set, NUM_FRAMES: 2, TRAIN_CROP_SIZE: 32, TEST_CROP_SIZE: 32,"
        " TRAIN_JITTER_SCALES: [32, 36]}\n"
    )
    values = {"MODEL.MODEL_NAME": "FrameAverage", "FRAME_AVERAGE.WIDTHS": [4]}
    network = build_model(load_config([folder / "tiny.yaml"], values))
    torch.save({"model_state": network.state_dict()}, folder / "frames.pyth")
    for name, code in (("trainer", TRAINER), ("sweep", SWEEP), ("experiments", EXPERIMENTS)):
        (folder / f"{name}.py").write_text(code)
    return folder


ONE = ["--workers", "1"]
CHECKPOINT = "run/checkpoints/checkpoint_epoch_00001.pyth"

# Tool -> its words, and at which files it is killed: 2 files per video that is encoded, then lists.
TOOLS = {
    "resize_videos": (["set/videos", "out", "--short-side", "32", *ONE], (2, 7)),
    "make_shards": (
        ["set/train.csv", "--prefix", "set", "--out", "out", "--megabytes", "0.001"],
        (1, 2, 5),
    ),
    "extract_frames": (["set", "out", "--lists", "train.csv", *ONE], (1, 4, 10)),
    "predict": (["net.pyth", "set/videos", "--out", "out/answers.jsonl", "--journal"], (1, 2, 3)),
    "make_lists": (["folder", "classes", "--out", "out"], (1, 4)),
    "check_data": (["set/train.csv", "--prefix", "set", "--out", "out", *ONE], (1, 3)),
    "show_data": (["--cfg", "tiny.yaml", "--out", "out/sheet.png", "--videos", "2"], (1,)),
    "visualize": (
        ["frames.pyth", "set/videos/test/left_0000.mp4", "--out", "out", "--cfg", "tiny.yaml"]
        + ["--classes", "classes.txt", "--opts", "MODEL.MODEL_NAME", "FrameAverage"]
        + ["FRAME_AVERAGE.WIDTHS", "[4]"],
        (1, 2),
    ),
    "average_weights": (["run", "out/w.safetensors", "--start", "1", "--end", "2"], (1,)),
    "export": (["net.pyth", "out/net.pt2"], (1,)),
    "probe": (["net.pyth", "classes", "--out", "out"], (1, 3)),
    "convert_checkpoint": (["strip", CHECKPOINT, "out/w.safetensors"], (1,)),
    "make_moving_shapes": (
        ["out", "--classes", "2", "--train", "2", "--val", "1", "--test", "1", *ONE],
        (1, 4, 7),
    ),
    "make_compositions": (["out", "--train", "1", "--test", "1", *ONE], (12,)),
    "text_prompts": (["askg", "classes.txt", "out/askg.yml"], (1, 2)),
    "protocol_table": (["A=run", "--out", "out/table.md"], (1,)),
    "report": (["run", "--out", "out/page.html"], (1,)),
    "config_reference": (["--out", "out/page.md"], (1,)),
    "sweep.py": ([], (1, 3)),
    "experiments.py": ([], (1,)),
}
CASES = [(tool, number) for tool, (_, numbers) in TOOLS.items() for number in numbers]


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, bytes]]:
    """The files of each tool that was left alone."""
    return {}


def _prepare(place: Path, tool: str) -> Path:
    """An empty ``out``, or for what writes beside its sources, these."""
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (place / "counter").unlink(missing_ok=True)
    (place / "log").unlink(missing_ok=True)
    if tool == "experiments.py":
        recipes = {"heads": {"data": {}, "backbones": {}, "heads": {}}}
        (out / "exp/mine").mkdir(parents=True)
        (out / "exp/recipes.yaml").write_text(json.dumps(recipes))
        (out / "exp/mine/config.yaml").write_text("# mine, mine.\n")
    return out


def _compared(tool: str, out: Path) -> dict[str, bytes]:
    found = files_below(out)
    if tool == "probe":  # it holds times
        found = {n: d for n, d in found.items() if Path(n).name != "test.json"}
    if tool == "sweep.py":  # these hold times, and what the runs print
        timed = ("console.txt", "cpu_seconds.json", "sweep.json")
        found = {n: d for n, d in found.items() if Path(n).name not in timed}
        found |= {f"{p.parent}": p.name.encode() for p in out.rglob("sweep.json")}
    return found


@pytest.mark.parametrize("tool, number", CASES)
def test_killed_and_repeated(tool, number, place, undisturbed):
    words = TOOLS[tool][0]
    script = place / tool if tool.endswith(".py") else ROOT / "tools" / f"{tool}.py"
    service = Stub(good) if tool == "text_prompts" else nullcontext()
    with service:
        url = service.url if tool == "text_prompts" else ""
        env = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}
        if tool not in undisturbed:
            out = _prepare(place, tool)
            assert call(script, words, place, env) == 0, (place / "log").read_text()
            undisturbed[tool] = _compared(tool, out)
        is_first = number == TOOLS[tool][1][0] and tool != "make_compositions"  # it takes longest
        for when in ("before", "after") if is_first else ("before",):
            out = _prepare(place, tool)
            code = call(script, words, place, env, number, when)
            assert code == -signal.SIGKILL, (place / "log").read_text()
            assert call(script, words, place, env) == 0, (place / "log").read_text()
            assert _compared(tool, out) == undisturbed[tool], when
