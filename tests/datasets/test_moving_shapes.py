"""The embedded data set is what it promises to be."""

from __future__ import annotations

import av
import pytest

from slowfast.datasets import compositions
from slowfast.datasets.moving_shapes import ShapesSpec, generate, is_complete, write_clips
from slowfast.datasets.shapes_render import CLASSES
from slowfast.utils.errors import UserError

SPEC = ShapesSpec(classes=2, train=2, val=1, test=1)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes(tmp_path):
    for name in ("a", "b"):
        assert generate(tmp_path / name, SPEC, workers=1, progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    generate(tmp_path / "c", ShapesSpec(2, 2, 1, 1, seed=1), workers=1, progress=False)
    name = "videos/train/left_0000.mp4"
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_second_call_makes_nothing(tmp_path):
    assert generate(tmp_path, SPEC, workers=1, progress=False)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.mp4")}
    assert not generate(tmp_path, SPEC, workers=1, progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.mp4")}
    assert not is_complete(tmp_path, ShapesSpec(2, 2, 1, 1, seed=5))


def test_interrupted_generation_is_done_again(tmp_path):
    generate(tmp_path, SPEC, workers=1, progress=False)
    (tmp_path / "moving_shapes.json").rename(tmp_path / "moving_shapes.unfinished")
    assert generate(tmp_path, SPEC, workers=1, progress=False)


def test_sixteen_classes_in_pairs():
    assert len(CLASSES) == len(set(CLASSES)) == 16
    assert CLASSES[:8] == [
        "left",
        "right",
        "up",
        "down",
        "clockwise",
        "counterclockwise",
        "grow",
        "shrink",
    ]


def test_files_are_h264(shapes):
    lines = (shapes / "test.csv").read_text().split("\n")
    assert lines[0] == "videos/test/left_0000.mp4 0"
    with av.open(str(shapes / lines[0].split()[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames) == ("h264", 24)
        assert (stream.width, stream.height) == (128, 96)


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_where_it_is_asked_for(capsys, progress):
    write_clips(str, [1, 2], "some clips", 1, progress)
    assert ("some clips" in capsys.readouterr().err) == progress


def test_odd_number_of_classes():
    with pytest.raises(UserError, match="even"):
        ShapesSpec(classes=3)


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "train.csv").write_text("mine.mp4 0\n")
    for make, spec in (
        (generate, SPEC),
        (compositions.generate, compositions.CompositionsSpec(1, 1)),
    ):
        with pytest.raises(UserError, match="holds other files, e.g. train.csv"):
            make(tmp_path, spec, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]
