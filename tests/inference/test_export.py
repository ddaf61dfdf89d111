"""Exported networks: what the files give is what the networks give, without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import slowfast
from slowfast.inference import export as export_module
from slowfast.inference.export import compared_views, export, reference
from slowfast.inference.exported import KINDS, trace, usage
from slowfast.inference.predictor import Predictor
from slowfast.layers.consensus import HEAD_REGISTRY
from slowfast.models.fewshot import build_fewshot
from slowfast.models.weights.files import write_weights
from slowfast.utils.errors import RunFailure, UserError
from tests.fewshot import fewshot_cfg
from tests.models.helpers import NAMES, build

FAMILIES = [
    *[(name, {}) for name in NAMES],
    ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    ("Uniformer", {"STFM.ENABLE": True, "MODEL.HEAD_ACT": "sigmoid", "DATA.INPUT_FORMAT": "BGR"}),
    ("TimeSformer", {"STFM.ENABLE": True}),
    ("MViT", {"STFM.ENABLE": True}),
    ("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"}),
]
IN_ONNX = [("Uniformer", {"STFM.ENABLE": True}), ("MViT", {}), ("TemporalClipVideo", {})]
WITHOUT = "import sys; sys.modules['slowfast'] = None\n"  # every import of it is an ImportError


def predictor_of(folder: Path, name: str, extra: dict | None = None) -> Predictor:
    """A network of the registry with random weights, whose answers are far from even."""
    cfg, model = build(name, {"TRAIN.MIXED_PRECISION": False} | (extra or {}))
    state = model.state_dict()
    for key in state:
        if key.startswith(model.spec.classifier_of(model)) and state[key].ndim > 1:
            # TSN's begins with a deviation of 0.001, the others' with ten times that and more.
            state[key] *= 30 if state[key].std() > 0.005 else 3000
    names = list(cfg.DATA.CLASS_NAMES) or list("abcde")
    write_weights(folder / "w.pyth", state, names, cfg.dump())
    return slowfast.load(folder / "w.pyth", "cpu")


def fewshot_predictor(folder: Path, compositions: Path, extra: dict | None = None) -> Predictor:
    cfg = fewshot_cfg(compositions, extra)
    torch.manual_seed(0)
    state = build_fewshot(cfg, 3, "cpu").state_dict()
    write_weights(folder / "w.pyth", state, ["x", "y", "z"], cfg.dump())
    return slowfast.load(folder / "w.pyth", "cpu")


@pytest.mark.parametrize("name, extra", FAMILIES)
def test_pt2_of_every_family(name, extra, tmp_path):
    predictor = predictor_of(tmp_path, name, extra)
    written = export(predictor, tmp_path / "net.pt2")
    assert written.difference < 1e-6 and written.facts["output"]["shape"] == ["views", 5]
    views = compared_views(predictor)[:3]
    found = KINDS[".pt2"].open(str(tmp_path / "net.pt2"))(views)
    assert torch.allclose(found, reference(predictor, views), atol=1e-6)
    assert found.std() > 1e-3  # or any file would be right


@pytest.mark.parametrize("head", HEAD_REGISTRY)
def test_every_head_over_frames_can_be_traced(head, tmp_path):
    predictor = predictor_of(tmp_path, "TSN", {"TSN.CONSENSUS": head, "TSN.LAYERS": 2})
    network = export_module.ClipNetwork(predictor.inference, predictor.model).eval()
    views = compared_views(predictor)
    program = trace(network, torch.zeros_like(views[:2])).module()
    for count in (1, 5):
        expected = reference(predictor, views[:count])
        assert torch.allclose(program(views[:count]), expected, atol=1e-6)


@pytest.mark.parametrize("name, extra", IN_ONNX)
def test_onnx(name, extra, tmp_path):
    assert export(predictor_of(tmp_path, name, extra), tmp_path / "net.onnx").difference < 1e-5


@pytest.mark.parametrize("method, kind", [("staf", "maps"), ("prototype", "vectors")])
def test_embeddings_of_a_few_shot_network(method, kind, compositions, tmp_path):
    predictor = fewshot_predictor(tmp_path, compositions, {"FEWSHOT.METHOD": method})
    written = export(predictor, tmp_path / "net.pt2")
    assert written.difference < 1e-6
    output = written.facts["output"]
    assert (output["name"], output["kind"]) == ("embeddings", kind)
    assert written.facts["frames"]["clips"] == 1 and written.facts["classes"] == []


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".safetensors"])
def test_runs_without_this_package(suffix, tmp_path):
    """The printed lines, in a process in which the package cannot be imported; the same bytes each
    time, which name no file of this machine."""
    predictor = predictor_of(tmp_path, "Uniformer")
    target = tmp_path / f"a network's{suffix}"
    written = export(predictor, target)
    lines = WITHOUT + usage(target, written.facts)
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if suffix != ".safetensors":
        assert "(2, 5)" in done.stdout.replace("[", "(").replace("]", ")")
        assert "['a', 'b', 'c', 'd', 'e']" in done.stdout
    data = target.read_bytes()
    export(predictor, tmp_path / f"again{suffix}")
    assert (tmp_path / f"again{suffix}").read_bytes() == data
    folder = str(Path(slowfast.__file__).parent).encode()
    assert folder not in data and b"slowfast/" not in data


def test_the_file_says_how_to_choose_and_resize_frames(tmp_path, video):
    """Followed by hand, its rules give the views of the test."""
    import av
    import cv2

    extra = {"DATA.SAMPLING": "segment", "TEST.NUM_ENSEMBLE_VIEWS": 2, "TEST.NUM_SPATIAL_CROPS": 1}
    predictor = predictor_of(tmp_path, "Uniformer", extra)
    facts = export(predictor, tmp_path / "net.pt2", [video]).facts
    frames, resizing = facts["frames"], facts["resizing"]
    assert frames["rule"] == "segment" and frames["options"] == {"clip_length": 4}
    # Segments begin at 0, 75, 150 and 224; a third and two thirds of 74.75 frames later.
    assert frames["example"]["indices"] == [[24, 99, 174, 248], [49, 124, 199, 273]]
    with av.open(str(video)) as file:
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    indices = predictor.inference.reader.evaluated_indices(len(decoded), 25.0)
    height, width = decoded[0].shape[:2]
    side, size = resizing["short_side"], resizing["crop"]
    assert resizing["crops"] == ["centre"] and height < width
    scaled = [cv2.resize(frame, (width * side // height, side)) for frame in decoded]
    top, left = -((size - side) // 2), -((size - width * side // height) // 2)
    views = np.stack(
        [[scaled[i][top : top + size, left : left + size] for i in clip] for clip in indices]
    )
    mean = KINDS[".pt2"].open(str(tmp_path / "net.pt2"))(torch.from_numpy(views)).mean(0)
    assert facts["merging"] == "mean of the views"
    assert torch.allclose(mean, predictor.predict(video).scores, atol=2e-3)  # of two decoders


def test_text_tower_of_clip_stays_out(tmp_path):
    predictor = predictor_of(tmp_path, "TemporalClipVideo")
    views = compared_views(predictor)[:2]
    program = trace(export_module.ClipNetwork(predictor.inference, predictor.model), views)
    names = " ".join(program.state_dict)
    assert "visual" in names and "token_embedding" not in names
    assert not any(name.startswith("model.model.transformer") for name in program.state_dict)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_differs_is_not_left(suffix, tmp_path, monkeypatch):
    predictor = predictor_of(tmp_path, "FrameAverage")
    target = tmp_path / f"net{suffix}"
    target.write_text("what was there")
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with pytest.raises(RunFailure, match="the file differs from the network by .*\n.*nothing was"):
        export(predictor, target)
    assert target.read_text() == "what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"w.pyth", target.name}


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    predictor = predictor_of(tmp_path, "FrameAverage")
    with pytest.raises(UserError, match=r"OUT: .*net.bin says no kind of file"):
        export(predictor, tmp_path / "net.bin")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"the package onnxscript.*\n.*slowfast\[onnx\]"):
        export(predictor, tmp_path / "net.onnx")


def test_weights_are_loaded_again_with_their_classes(tmp_path):
    predictor = predictor_of(tmp_path, "Uniformer")
    export(predictor, tmp_path / "net.safetensors")
    again = slowfast.load(tmp_path / "net.safetensors", "cpu")
    views = compared_views(predictor)
    assert again.classes == predictor.classes
    assert torch.equal(reference(again, views), reference(predictor, views))


def test_facts_are_plain(tmp_path):
    written = export(predictor_of(tmp_path, "FrameAverage"), tmp_path / "net.pt2")
    assert json.loads(json.dumps(written.facts)) == written.facts
    assert written.summary.startswith("probabilities views x 5; largest difference ")
