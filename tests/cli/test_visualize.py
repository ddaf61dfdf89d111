"""tools/visualize.py: pictures of what a trained network looks at."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import slowfast
from slowfast.analysis.looks import LookOptions, show_video
from slowfast.utils.errors import UserError
from slowfast.video.source import open_video
from tests.conftest import ROOT, SHARED_CLIPS, TINY, run_tool, words

VALUES = TINY | {
    "TRAIN.DATASET": "moving_shapes",
    "TEST.DATASET": "moving_shapes",
    "SOLVER.MAX_EPOCH": 1,
    "TEST.ENABLE": False,
    "STFM.ENABLE": True,
    "STFM.NUM_TOKENS": 3,
}


@pytest.fixture(scope="module")
def checkpoint(shapes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    places = {"DATA.PATH_TO_DATA_DIR": str(shapes), "OUTPUT_DIR": str(out)}
    done = run_tool("run_net.py", "--cfg", "configs/quickstart/data.yaml", *words(VALUES | places))
    assert done.returncode == 0, done.stderr
    return out / "checkpoints" / "checkpoint_best.pyth"


@pytest.fixture(scope="module")
def videos(shapes) -> list[Path]:
    return sorted((shapes / "videos/test").iterdir())[:2]


def test_sheet_and_animation(checkpoint, videos, tmp_path):
    done = run_tool("visualize.py", checkpoint, *videos, "--out", tmp_path / "looks")
    assert done.returncode == 0, done.stderr
    for video in videos:
        sheet = cv2.imread(str(tmp_path / "looks" / f"{video.stem}.png"))
        # Four frames of 192 pixels beside one another; frames, map and tokens below one another.
        assert sheet.shape == (3 * (18 + 192 + 2), 4 * (192 + 2), 3)
        with Image.open(tmp_path / "looks" / f"{video.stem}.gif") as animation:
            assert animation.n_frames == 4 and animation.size == (3 * 192, 192 + 44)
        assert f"{video.name}: " in done.stdout and " % -> " in done.stdout
    again = run_tool("visualize.py", checkpoint, *videos, "--out", tmp_path / "again")
    assert again.returncode == 0
    for path in (tmp_path / "looks").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize(
    "method, kind", [("attention", "webp"), ("rollout", "none"), ("gradcam", "mp4")]
)
def test_methods_and_formats(checkpoint, videos, tmp_path, method, kind):
    done = run_tool(
        "visualize.py", checkpoint, videos[0], "--out", tmp_path, "--method", method,
        "--format", kind, "--frames", 2, "--size", 64, "--target", "up",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / f"{videos[0].stem}.png")).shape[1] == 2 * (64 + 2)
    file = tmp_path / f"{videos[0].stem}.{kind}"
    assert file.exists() == (kind != "none")
    if kind == "mp4":
        assert open_video(str(file)).num_frames == 4


def test_unreadable_videos_are_named_and_the_rest_is_done(checkpoint, videos, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    other = tmp_path / "other" / videos[0].name
    other.parent.mkdir()
    shutil.copy(videos[0], other)
    done = run_tool("visualize.py", checkpoint, broken, videos[0], other, "--out", tmp_path / "a")
    assert done.returncode == 1 and "broken.mp4" in done.stderr
    stem = videos[0].stem
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"{stem}.png", f"{stem}.gif", f"{stem}-2.png", f"{stem}-2.gif"}


def test_what_is_read_is_not_written_over(checkpoint, videos, tmp_path):
    video = tmp_path / "video.mp4"
    shutil.copy(videos[0], video)
    frames = tmp_path / "frames"
    frames.mkdir()
    before = video.read_bytes()
    done = run_tool("visualize.py", checkpoint, video, "--out", tmp_path, "--format", "mp4")
    assert done.returncode == 2 and "it would be overwritten" in done.stderr
    assert video.read_bytes() == before
    done = run_tool("visualize.py", checkpoint, frames, "--out", frames / "in")
    assert done.returncode == 2 and "lies in the frames" in done.stderr
    assert not any(frames.iterdir())


def test_wrong_words_are_explained(checkpoint, videos, tmp_path):
    for extra, text in (
        (["--target", "lefft"], "did you mean left"),
        (["--layer", "blocks40.9"], "no block with attention"),
        (["--frames", "0"], "--frames: is 0"),
        (["--colormap", "nothing"], "no colour map"),
    ):
        done = run_tool("visualize.py", checkpoint, videos[0], "--out", tmp_path, *extra)
        assert done.returncode == 2 and text in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_numbers_behind_the_pictures(checkpoint, videos):
    predictor = slowfast.load(checkpoint, "cpu")
    pictures = show_video(predictor, str(videos[0]), LookOptions(target="down", method="gradcam"))
    assert pictures.look.target.tolist() == [3]
    prediction = predictor.predict(str(videos[0]))
    assert f"{prediction.labels[0]}, {100 * prediction.probabilities[0]:.1f} %" in pictures.title
    frames = predictor.picture(predictor.preprocess(str(videos[0])))
    assert frames.dtype.is_floating_point is False and frames.shape == (6, 4, 32, 32, 3)
    # The first row is the central view, enlarged.
    shown = pictures.frames[:, 44:, :192][:, ::6, ::6].astype(int)
    assert np.abs(shown - frames[4].numpy()).mean() < 12
    with pytest.raises(UserError, match="a number below 4"):
        show_video(predictor, str(videos[0]), LookOptions(target="17"))


def test_the_lines_of_python(checkpoint, shapes, tmp_path, monkeypatch):
    """Those of docs/visualize.md."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output/shapes").symlink_to(checkpoint.parents[1])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/moving_shapes_8").symlink_to(shapes)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/visualize.md").read_text(), re.S)
    names: dict = {}
    exec(block, names)
    seen = names["seen"]
    assert seen.maps.shape == (1, 4, 32, 32) and 0 <= seen.maps.min() < seen.maps.max() <= 1
    assert float(seen.shares.sum()) == pytest.approx(1, abs=1e-4) and seen.shares.shape[0] == 1
    assert seen.tokens.centres.shape[2:] == (3, 2)


@pytest.mark.skipif(not SHARED_CLIPS.is_dir(), reason="no real clips here")
def test_real_videos(checkpoint, tmp_path):
    clips = sorted(SHARED_CLIPS.glob("*.mp4"))[:2]
    done = run_tool("visualize.py", checkpoint, *clips, "--out", tmp_path, "--format", "webp")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 4
