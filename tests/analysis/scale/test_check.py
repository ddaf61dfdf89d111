"""The checks of the simulation, with a script in place of a training."""

from __future__ import annotations

import numpy as np
import pytest

from slowfast.analysis.scale.check import check_failures, check_late_readers
from slowfast.analysis.stress.runs import Scene
from slowfast.utils.errors import RunFailure
from slowfast.video.transforms import TRANSFORM_REGISTRY

# 30 steps of 20 ms, or 30 ms if clips are late; a checkpoint after every TRAIN.CHECKPOINT_STEPS. A start
# of a run that has been killed goes on behind its last checkpoint.
TRAINER = """
import json, os, pathlib, sys, time
out, words = pathlib.Path(sys.argv[1]), dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert os.environ.get("RANK", "0") in ("0", "1")
if os.environ.get("RANK", "0") == "1":
    sys.exit(0)
every = int(words.get("TRAIN.CHECKPOINT_STEPS", "1"))
assert "fail" not in words
seconds = 0.03 if "DATA.TRANSFORMS_BEFORE" in words else 0.02
saved = out / "saved"
first = int(saved.read_text()) if saved.exists() else 0
for step in range(first, 30):
    time.sleep(seconds)
    with open(out / "stats.jsonl", "a") as file:
        file.write(json.dumps({"_type": "train_iter", "dt": seconds}) + "\\n")
        file.write(json.dumps({"_type": "train_step"}) + "\\n")
    if (step + 1) % every == 0:
        saved.write_text(str(step + 1))
"""


@pytest.fixture
def scene(tmp_path):
    (tmp_path / "trainer.py").write_text(TRAINER)
    return lambda *words: Scene([str(tmp_path / "trainer.py"), "{out}", *words], tmp_path, 2)


def test_late_readers(scene):
    """The measured seconds are those of the run with late clips, the computing those without."""
    result = check_late_readers(scene(), workers=1, clips=1, mean=0.001, deviation=0.001)
    assert (result["processes"], result["steps"]) == (2, 22)
    assert result["seconds_measured"] == 0.03 and result["seconds_without_late_clips"] == 0.02
    # Clips that are there in a millisecond delay nothing.
    assert result["seconds_simulated"] == pytest.approx(0.02, rel=0.02)
    assert result["simulated_to_measured"] == pytest.approx(2 / 3, rel=0.02)


def test_failures(scene):
    """A run that is killed twice still makes all its steps, and some of them again."""
    result = check_failures(scene(), [0.3, 0.3], every=5, mean=0.001)
    folder = scene().folder
    whole, killed = (
        (folder / name / "stats.jsonl").read_text().count("train_iter")
        for name in ("whole", "killed")
    )
    assert whole == 30 and 30 <= killed <= 30 + 2 * 5
    assert result["kills"] == 2
    assert result["seconds_measured"] >= result["seconds_undisturbed"] >= 30 * 0.03


def test_a_run_that_fails_is_an_error(scene):
    with pytest.raises(RunFailure, match="the run plain failed"):
        check_late_readers(scene("fail", "1"), 1, 1, 0.001, 0.001)


def test_late_clips_are_those_of_training_and_unchanged(monkeypatch):
    # The transform is one of the check alone: others are not to find it.
    monkeypatch.setattr(TRANSFORM_REGISTRY, "_objects", dict(TRANSFORM_REGISTRY._objects))
    from slowfast.analysis.scale.late import late

    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    frames = np.zeros((2, 3, 3, 3), np.uint8)
    assert late(frames, np.random.default_rng(0), "val") is frames and not slept
    rng = np.random.default_rng(0)
    assert all(late(frames, rng, "train", mean=0.2, deviation=0.1) is frames for _ in range(4000))
    assert np.mean(slept) == pytest.approx(0.2, rel=0.02)
    assert len(set(slept)) == 4000
