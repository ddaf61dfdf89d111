"""Pictures for TensorBoard, read back from the files of real runs."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from slowfast.config.load import load_config
from slowfast.engine.launch import launch
from slowfast.engine.loggers import TensorBoardLogger
from slowfast.engine.run import check_work, run_job
from slowfast.engine.tensorboard.classes import ClassFiles
from slowfast.engine.tensorboard.evaluation import EvaluationPictures
from slowfast.engine.tensorboard.figures import confusion_figure
from slowfast.engine.tensorboard.layers import ShownLayer, tensor_image
from slowfast.engine.tensorboard.scores import read_scores
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import TINY, words

TB = "TENSORBOARD"
NAMES = ["left", "right", "up", "down"]


def run(shapes: Path, out: Path, **values: object) -> None:
    base = TINY | {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "DATA.PATH_PREFIX": str(shapes),
        "OUTPUT_DIR": str(out),
        f"{TB}.ENABLE": True,
    }
    cfg = load_config(overrides=words(base | values))
    check_work(cfg)
    launch(cfg, run_job)


def images(out: Path, folder: str = "runs-moving_shapes") -> dict[str, list]:
    events = EventAccumulator(str(out / folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def frames_of(event) -> Image.Image:
    return Image.open(io.BytesIO(event.encoded_image_string))


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory) -> Path:
    """A run of two epochs with pictures of every evaluation."""
    out = tmp_path_factory.mktemp("trained")
    (out / "some.txt").write_text("left\nup\nnonsense\n")
    (out / "groups.json").write_text(json.dumps({"across": ["left", "right"], "none": ["x"]}))
    run(
        shapes,
        out,
        **{
            f"{TB}.CONFUSION_MATRIX.ENABLE": True,
            f"{TB}.CONFUSION_MATRIX.SUBSET_PATH": str(out / "some.txt"),
            f"{TB}.CONFUSION_MATRIX.FIGSIZE": [3, 4],
            f"{TB}.CATEGORIES_PATH": str(out / "groups.json"),
            f"{TB}.HISTOGRAM.ENABLE": True,
            f"{TB}.HISTOGRAM.TOPK": 3,
            f"{TB}.HISTOGRAM.FIGSIZE": [2, 2],
            "TEST.SAVE_RESULTS_PATH": "scores.pkl",
        },
    )
    return out


def test_pictures_of_validations_and_tests(trained):
    found = images(trained)
    plain = {
        "Confusion Matrix",
        "Confusion Matrix Subset",
        "Confusion Matrices Grouped by Parent Classes/across",
        *(f"Top 3 predictions by classes/{name}" for name in NAMES),
    }
    assert set(found) == plain | {f"Test 2x3 views/{tag}" for tag in plain}
    assert [event.step for event in found["Confusion Matrix"]] == [4, 8]
    assert [event.step for event in found["Test 2x3 views/Confusion Matrix"]] == [0]
    assert frames_of(found["Confusion Matrix"][0]).size == (300, 400)
    assert frames_of(found["Top 3 predictions by classes/up"][0]).size == (200, 200)


def test_saved_predictions_are_drawn_without_a_network(trained, shapes, tmp_path):
    (scores,) = trained.glob("tests/*/scores.npz")
    for path in (trained / "scores.pkl", scores):
        out = tmp_path / path.suffix[1:]
        run(
            shapes,
            out,
            **{
                "TRAIN.ENABLE": False,
                "TEST.ENABLE": False,
                "TEST.CHECKPOINT_FILE_PATH": str(trained / "checkpoints/checkpoint_best.pyth"),
                f"{TB}.PREDICTIONS_PATH": str(path),
                f"{TB}.CONFUSION_MATRIX.ENABLE": True,
                f"{TB}.LOG_DIR": "mine",
            },
        )
        assert set(images(out, "mine")) == {"Saved predictions/Confusion Matrix"}
    scores, labels = read_scores(str(trained / "scores.pkl"))
    assert scores.shape == (8, 4) and labels.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_model_and_wrong_videos(trained, shapes, tmp_path):
    (tmp_path / "subset.txt").write_text("up\ndown\n")
    run(
        shapes,
        tmp_path / "out",
        **{
            "TRAIN.ENABLE": False,
            "TEST.CHECKPOINT_FILE_PATH": str(trained / "checkpoints/checkpoint_best.pyth"),
            f"{TB}.MODEL_VIS.ENABLE": True,
            f"{TB}.MODEL_VIS.MODEL_WEIGHTS": True,
            f"{TB}.MODEL_VIS.ACTIVATIONS": True,
            f"{TB}.MODEL_VIS.LAYER_LIST": ["patch_embed1/proj", "blocks2.0 0,1;1,0"],
            f"{TB}.MODEL_VIS.TOPK_PREDS": 2,
            f"{TB}.MODEL_VIS.GRAD_CAM.LAYER_LIST": ["blocks2/0"],
            f"{TB}.WRONG_PRED_VIS.ENABLE": True,
            f"{TB}.WRONG_PRED_VIS.TAG": "Wrong",
            f"{TB}.WRONG_PRED_VIS.SUBSET_PATH": str(tmp_path / "subset.txt"),
        },
    )
    found = images(tmp_path / "out")
    inputs = {f"Input {number}/Pathway 1" for number in range(8)}
    assert inputs <= set(found)
    assert {f"Input 0/Activations: {name}" for name in ("patch_embed1/proj", "blocks2.0")} <= set(
        found
    )
    assert "Layer Weights/patch_embed1/proj" in found  # blocks2.0 has none
    clip = frames_of(found["Input 0/Pathway 1"][0])
    # 4 frames of 32 x 32, enlarged six times, below two lines.
    assert clip.format == "GIF" and clip.n_frames == 4 and clip.size == (192, 192 + 44)
    (rows,) = (tmp_path / "out").glob("tests/*/predictions.csv")
    lines = [line.split(",") for line in rows.read_text().splitlines()]
    column = {name: lines[0].index(name) for name in ("label", "prediction", "label_name")}
    wrong = {
        f"Wrong/Video {number}, Pathway 0: {line[column['label_name']]}"
        for number, line in enumerate(lines[1:])
        if line[column["label"]] != line[column["prediction"]]
        and line[column["label_name"]] in ("up", "down")
    }
    assert {tag for tag in found if tag.startswith("Wrong/")} == wrong


def test_matrix_shows_shares_of_each_class(make_cfg, monkeypatch):
    drawn = {}

    def draw(matrix, names, size, title):
        drawn[title] = (matrix, list(names))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr("slowfast.engine.tensorboard.evaluation.confusion_figure", draw)
    cfg = make_cfg({f"{TB}.ENABLE": True, f"{TB}.CONFUSION_MATRIX.ENABLE": True})
    labels = torch.tensor([0, 0, 0, 0, 1])
    scores = nn.functional.one_hot(torch.tensor([0, 0, 0, 2, 1]), 4).float()
    list(EvaluationPictures(cfg).draw(scores, labels, []))
    matrix, names = drawn["Confusion Matrix"]
    expected = np.zeros((4, 4))
    expected[0, [0, 2]], expected[1, 1] = (0.75, 0.25), 1
    assert np.array_equal(matrix, expected) and names == ["0", "1", "2", "3"]


def test_a_matrix_of_many_classes_can_be_drawn():
    image = confusion_figure(np.eye(400), [f"class {n}" for n in range(400)], [8, 8], "all")
    assert image.shape == (800, 800, 3) and image.min() < 60


def test_files_that_cannot_be_read_are_named_before_the_run(make_cfg, tmp_path):
    on = {f"{TB}.ENABLE": True, f"{TB}.CONFUSION_MATRIX.ENABLE": True}
    for part in ("CLASS_NAMES_PATH", "CATEGORIES_PATH", "CONFUSION_MATRIX.SUBSET_PATH"):
        with pytest.raises(UserError, match=f"{TB}.{part}"):
            TensorBoardLogger(make_cfg(on | {f"{TB}.{part}": str(tmp_path / "no.json")}))
    (tmp_path / "names.txt").write_text("a\nb\n")
    files = ClassFiles(make_cfg(on | {f"{TB}.CLASS_NAMES_PATH": str(tmp_path / "names.txt")}))
    assert files.shown(["x", "y"], 2).names == ["a", "b"]
    with pytest.raises(UserError, match="2 names, the network has 4"):
        files.shown(NAMES, 4)


@pytest.mark.parametrize("part", ["MODEL_VIS", "WRONG_PRED_VIS"])
def test_networks_without_classes_are_refused_before_the_run(make_cfg, part):
    values = {"TASK": "fewshot", f"{TB}.ENABLE": True}
    make_cfg(values)
    with pytest.raises(UserError, match=rf"{TB}\.{part}\.ENABLE.*no classes of its own"):
        make_cfg(values | {f"{TB}.{part}.ENABLE": True})


def test_missing_matplotlib_is_named(make_cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    TensorBoardLogger(make_cfg({f"{TB}.ENABLE": True}))
    with pytest.raises(UserError, match=r"TENSORBOARD\.HISTOGRAM.*\n.*\[plot\]"):
        TensorBoardLogger(make_cfg({f"{TB}.ENABLE": True, f"{TB}.HISTOGRAM.ENABLE": True}))


def test_layers_are_named_as_in_pyslowfast():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)))
    layer = ShownLayer.parse("0/0 0,1;2", network)
    assert layer.name == "0.0" and layer.indices == ([0, 1], [2])
    values = torch.arange(4 * 5 * 6).view(4, 5, 6)
    assert torch.equal(layer.of(values), values[[0, 1], [2]])
    assert torch.equal(ShownLayer.parse("0.0", network).of(values), values)
    for text, problem in (("0/1", "no layer"), ("0/0 a", "no indices")):
        with pytest.raises(UserError, match=problem):
            ShownLayer.parse(text, network)
    with pytest.raises(UserError, match="LAYER_LIST"):
        ShownLayer.parse("0/0 9", network).of(values)


def test_tensors_become_grids():
    image = tensor_image(torch.linspace(0, 1, 2 * 3 * 3).view(2, 3, 3))
    factor = 512 // 9
    assert image.shape == (5 * factor, 9 * factor, 3)
    assert tuple(image[factor, factor]) == (0,) * 3
    assert tuple(image[3 * factor, 7 * factor]) == (255,) * 3
    for shape in ((), (7,), (3, 4), (40, 30, 5, 5)):
        assert tensor_image(torch.rand(shape), "viridis").ndim == 3


def test_scores_of_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    torch.save({"model_state": {"w": torch.zeros(2)}}, tmp_path / "other.pt")
    for name in ("other.npz", "other.pt", "none.pt"):
        with pytest.raises(UserError, match="PREDICTIONS_PATH"):
            read_scores(str(tmp_path / name))
    for content in ([torch.rand(2, 3)] * 2, [print], [np.zeros((2, 3))]):
        (tmp_path / "other.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match="PREDICTIONS_PATH"):
            read_scores(tmp_path / "other.pkl")
    pair = [np.random.rand(2, 3).astype(np.float32), np.array([2, 0])]
    for protocol in (2, 4, 5):
        (tmp_path / "pair.pkl").write_bytes(pickle.dumps(pair, protocol))
        scores, labels = read_scores(tmp_path / "pair.pkl")
        assert np.array_equal(scores, pair[0]) and labels.tolist() == [2, 0]
    torch.save([torch.rand(2, 3), torch.eye(3)[:2]], tmp_path / "pair.pt")
    assert read_scores(str(tmp_path / "pair.pt"))[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL_VIS.LAYER_LIST", ["patch_embed1/none"]),
        ("MODEL_VIS.COLORMAP", "no such map"),
        ("WRONG_PRED_VIS.SUBSET_PATH", "missing.txt"),
    ],
)
def test_what_is_shown_after_a_run_is_checked_before_it(make_cfg, key, value):
    values = {f"{TB}.ENABLE": True, f"{TB}.MODEL_VIS.ENABLE": True, f"{TB}.{key}": value}
    cfg = make_cfg(values)
    before = torch.random.get_rng_state()
    with pytest.raises(UserError, match=key.split(".")[-1]):
        run_job(cfg, Runtime(torch.device("cpu")))
    assert torch.equal(before, torch.random.get_rng_state())
