"""Probes: from folders of videos to a tested classifier, and to a network that predict reads."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

import slowfast
from slowfast.inference import probe as probe_module
from slowfast.inference.probe import features_of, probe, read_data
from slowfast.utils.errors import UserError
from tests.inference.test_export import fewshot_predictor, predictor_of


@pytest.fixture(scope="module")
def folders(shapes, tmp_path_factory):
    """``train/<class>`` and ``test/<class>`` of the embedded set."""
    root = tmp_path_factory.mktemp("classes")
    for part in ("train", "test"):
        for video in sorted((shapes / "videos" / part).iterdir()):
            target = root / part / video.name.split("_")[0]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, target / video.name)
    return root


def test_data_of_all_forms(folders, shapes, tmp_path):
    parts = read_data(folders)
    assert [len(parts.train.items), len(parts.test.items)] == [16, 8]
    assert parts.train.class_names == ["down", "left", "right", "up"]
    divided = read_data(folders / "train", share=0.25)
    assert [len(divided.train.items), len(divided.test.items)] == [12, 4]
    listed = read_data(shapes, prefix=str(shapes))
    assert listed.test.class_names == ["left", "right", "up", "down"]
    for name in ("train.csv", "test.csv"):
        shutil.copy(shapes / name, tmp_path)
    assert read_data(tmp_path, str(shapes)).train.class_names == ["0", "1", "2", "3"]
    rows = (tmp_path / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join(r for r in rows if not r.endswith("1")) + "\n")
    shutil.copytree(folders / "train" / "left", tmp_path / "one" / "left")
    with pytest.raises(UserError, match="DATA: .*one has videos of one class only"):
        read_data(tmp_path / "one")
    with pytest.raises(UserError, match="DATA: no training video is of '1'"):
        read_data(tmp_path, str(shapes))


@pytest.mark.parametrize("name", ["Uniformer", "MViT"])
def test_a_linear_probe_is_a_network(name, folders, tmp_path, monkeypatch):
    """Its answers are those of the results; features are computed once; all is repeatable."""
    predictor = predictor_of(tmp_path, name)
    data, out = read_data(folders), tmp_path / "out"
    result = probe(predictor, tmp_path / "w.pyth", data, out)
    facts = json.loads((result.folder / "test.json").read_text())
    assert facts["figures"]["top1_acc"] == pytest.approx(result.accuracy.mean)
    assert facts["classes"] == data.train.class_names and result.details.startswith("linear, ")
    with open(result.folder / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and result.unreadable == 0
    assert result.saved == out / "probe.pyth"
    network = slowfast.load(result.saved, "cpu")
    assert network.classes == data.train.class_names
    for row, answer in zip(rows, network.predict([row["path"] for row in rows])):
        assert answer.labels[0] == row["prediction_name"]
        assert answer.probabilities[0] == pytest.approx(float(row["probability"]), abs=1e-3)
    first = result.saved.read_bytes(), (result.folder / "predictions.csv").read_bytes()
    monkeypatch.setattr(predictor, "embed_stream", None)  # not needed again
    again = probe(predictor, tmp_path / "w.pyth", data, out)
    assert again.folder == result.folder
    assert (again.saved.read_bytes(), (again.folder / "predictions.csv").read_bytes()) == first


def test_nearest_neighbours(folders, tmp_path):
    """The training videos themselves are their own nearest neighbours."""
    predictor = predictor_of(tmp_path, "FrameAverage")
    data = read_data(folders)
    itself = probe_module.ProbeData(data.train, data.train)
    result = probe(predictor, tmp_path / "w.pyth", itself, tmp_path / "out", "knn", 1)
    assert result.accuracy.mean == 100 and result.saved is None
    assert result.details == "1 nearest neighbours by cosine"


def test_a_network_without_classes(compositions, folders, tmp_path):
    """The embedding of a few-shot network has no classifier that could be replaced."""
    predictor = fewshot_predictor(tmp_path, compositions)
    result = probe(predictor, tmp_path / "w.pyth", read_data(folders), tmp_path / "out")
    assert result.videos == 8 and result.saved is None


def test_unreadable_videos_are_counted(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / "classes")
    (root / "test/up/broken.mp4").write_bytes(b"no video")
    (root / "train/up/broken.mp4").write_bytes(b"no video")
    predictor = predictor_of(tmp_path, "FrameAverage")
    result = probe(predictor, tmp_path / "w.pyth", read_data(root), tmp_path / "out", "knn")
    assert (result.videos, result.unreadable) == (8, 1)
    facts = json.loads((result.folder / "test.json").read_text())
    assert (facts["videos"], facts["unreadable"]) == (8, 1)


def test_features_follow_weights_and_videos(folders, tmp_path, caplog):
    predictor = predictor_of(tmp_path, "FrameAverage")
    data = read_data(folders)
    one = features_of(predictor, data.test, tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(features_of(predictor, data.test, tmp_path).values, one.values)
    assert "computed again" in caplog.text
    with torch.no_grad():
        next(predictor.model.parameters()).mul_(2)
    assert not torch.equal(features_of(predictor, data.test, tmp_path).values, one.values)
