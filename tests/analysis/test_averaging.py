"""Weights of many epochs in one file."""

from __future__ import annotations

import json
import math

import pytest
import torch

from slowfast.analysis.averaging import METHODS, average, epoch_weights, find_epochs
from slowfast.engine.checkpoint import checkpoint_path
from slowfast.utils.errors import UserError
from tests.conftest import run_tool


def write_run(folder, epochs, extra=lambda epoch: {}):
    for epoch in epochs:
        path = checkpoint_path(folder, epoch)
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {"w": torch.full((2, 2), float(epoch)), "count": torch.tensor(epoch)}
        torch.save({"model_state": state | extra(epoch), "class_names": ["a", "b"]}, path)


def test_weights_by_hand():
    assert epoch_weights("swa", [2, 3, 4, 5]) == [0.25] * 4
    gauss = epoch_weights("gwa", [5, 15, 25])
    assert math.isclose(gauss[0] / gauss[1], math.exp(-0.5)) and gauss[0] == gauss[2]
    beta = epoch_weights("bwa", [1, 2])  # middles 1/4 and 3/4
    assert beta == [0.5, 0.5]
    three = epoch_weights("bwa", [1, 2, 3])  # 1/6, 1/2, 5/6: density 1/sqrt(x (1 - x))
    assert math.isclose(three[0] / three[1], math.sqrt(0.25 / (5 / 36)))
    decayed = epoch_weights("ewa", [1, 2, 4])
    assert math.isclose(decayed[1] / decayed[2], 0.81)
    for method in METHODS:
        assert math.isclose(sum(epoch_weights(method, range(2, 23))), 1.0)


def test_a_run_is_averaged(tmp_path):
    write_run(tmp_path, range(1, 6))
    paths = find_epochs(tmp_path, 2, 4, "")
    average(paths, epoch_weights("ewa", list(paths)), tmp_path / "mean.pyth")
    content = torch.load(tmp_path / "mean.pyth", weights_only=True)
    wanted = (0.81 * 2 + 0.9 * 3 + 4) / (0.81 + 0.9 + 1)
    assert torch.allclose(content["model_state"]["w"], torch.full((2, 2), wanted))
    assert int(content["model_state"]["count"]) == 4 and content["class_names"] == ["a", "b"]


def test_clip_is_epoch_zero(tmp_path):
    """OpenAI's names stand beside a run's; what CLIP lacks is averaged over the rest."""
    clip = {
        "visual.conv1.weight": torch.zeros(1),
        "visual.class_embedding": torch.zeros(1),
        "logit_scale": torch.zeros(1),
        "input_resolution": torch.tensor(224),
    }
    torch.save(clip, tmp_path / "clip.pt")
    for epoch in (1, 2):
        names = (
            "model.visual.conv1.weight",
            "model.visual.class_embedding",
            "projector_v.0.weight",
            "raw_model.visual.conv1.weight",
            "model.logit_scale",
            "raw_model.logit_scale",
        )
        write_run(tmp_path, [epoch], lambda e: {n: torch.full((1,), 3.0 * e) for n in names})
    paths = find_epochs(tmp_path, 0, 2, str(tmp_path / "clip.pt"))
    average(paths, epoch_weights("swa", list(paths)), tmp_path / "mean.safetensors")
    from safetensors.torch import load_file

    mean = load_file(tmp_path / "mean.safetensors")
    assert mean["model.visual.conv1.weight"] == 3 and mean["raw_model.visual.conv1.weight"] == 3
    assert mean["projector_v.0.weight"] == 4.5 and "model.input_resolution" not in mean


def test_missing_epochs_are_named(tmp_path):
    write_run(tmp_path, [1, 2, 5])
    with pytest.raises(UserError, match="no checkpoints of epochs 3, 4"):
        find_epochs(tmp_path, 1, 5, "")
    with pytest.raises(UserError, match="name them with --original"):
        find_epochs(tmp_path, 0, 2, "")
    with pytest.raises(UserError, match="not a range"):
        find_epochs(tmp_path, 5, 2, "")


def test_other_networks_are_refused(tmp_path):
    write_run(tmp_path, [1])
    write_run(tmp_path, [2], lambda epoch: {"w": torch.zeros(3)})
    with pytest.raises(UserError, match="to another network: 1 parameters do not fit .e.g. w"):
        average(find_epochs(tmp_path, 1, 2, ""), [0.5, 0.5], tmp_path / "mean.pyth")
    assert not (tmp_path / "mean.pyth").exists()


def test_tool(tmp_path):
    write_run(tmp_path / "run", range(2, 5))
    done = run_tool(
        "average_weights.py", tmp_path / "run", tmp_path / "m.pyth", "--end", 4, "--method", "gwa"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["tensors"] == 2
    assert "epoch 3: weight" in done.stdout + done.stderr
    done = run_tool("average_weights.py", tmp_path / "run", tmp_path / "m.pyth")
    assert done.returncode == 2 and "epochs 5, 6" in done.stderr
