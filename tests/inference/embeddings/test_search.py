"""Queries: texts as a zero-shot test has them, clips, and what is refused by its name."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from slowfast.inference.embeddings.parquet import VectorFile
from slowfast.inference.embeddings.search import (
    Hit,
    Query,
    as_csv,
    as_json,
    as_table,
    network_of,
    search,
)
from slowfast.inference.embeddings.space import Space
from slowfast.inference.embeddings.work import Plan, embed
from slowfast.inference.network import Network
from slowfast.utils.errors import UserError
from slowfast.utils.map import Where
from slowfast.video.writer import write_mp4
from tests.conftest import ROOT, noise_clip
from tests.inference.test_export import predictor_of

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Embeddings of four videos by a CLIP with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    predictor_of(folder, "TemporalClipVideo", {"CLIP.TEMPLATES": ["a {}.", "one who is {}."]})
    (folder / "videos").mkdir()
    for number in range(4):
        clip = noise_clip(30, 40, 48, seed=number)
        write_mp4(folder / f"videos/{number}.mp4", clip, fps=10, gop=10)
    videos = sorted(map(str, (folder / "videos").iterdir()))
    network = Network(str(folder / "w.pyth"), "cpu")
    embed(network, Plan(videos, folder / "out", 1.0, 0.0, 3), Where())
    return folder


@pytest.fixture(scope="module")
def space(place):
    return Space([place / "out"])


@pytest.fixture(scope="module")
def predictor(space):
    return network_of(space.facts, device="cpu")


def test_words_are_compared_as_in_a_zero_shot_test(space, predictor):
    """The names of the classes as queries give the probabilities of the test."""
    scale = predictor.model.model.logit_scale.exp().item()
    rows = {}
    for file in space.files:
        norms = parquet.read_table(file.path, columns=["norm"]).column(0).to_pylist()
        for row, norm in zip(file.found(range(file.rows)), norms):
            rows[row.path, row.start] = (norm, row.scores)
    logits = {key: [] for key in rows}
    for name in predictor.classes:
        for hit in search(space, Query.of(name).vector(predictor), 100):
            logits[hit.path, hit.start].append(
                scale * rows[hit.path, hit.start][0] * hit.similarity
            )
    assert len(logits) == 12
    for key, values in logits.items():
        probabilities = torch.tensor(values).softmax(0).numpy()
        assert np.allclose(probabilities, rows[key][1], atol=5e-3)


def test_a_clip_finds_itself(place, space, predictor):
    video = str(place / "videos/2.mp4")
    for start in (0.0, 1.0, 2.0):
        query = Query.of(video, start).for_windows(space.facts.window)
        assert query.span == (start, start + 1)
        first, second = search(space, query.vector(predictor), 2)
        assert (first.path, first.span) == (video, (start, start + 1))
        assert first.similarity == pytest.approx(1, abs=1e-3) and second.similarity < 0.9999
    whole = Query.of(video).vector(predictor)
    assert torch.equal(whole, predictor.embed(video)[0])
    assert Query.of(video, 2.5).for_windows(1.0).vector(predictor).shape == whole.shape


def test_what_a_word_means(place):
    assert Query.of("a person juggling") == Query("a person juggling")
    assert Query.of("s3://bucket/x.mp4").video == "s3://bucket/x.mp4"
    for words, message in (
        (("absent.mp4",), "there is no video absent.mp4"),
        ((" ",), "QUERY: is empty"),
        (("a person", 1.0), "--start: a text has no times"),
    ):
        with pytest.raises(UserError, match=message):
            Query.of(*words)


def test_times_and_videos_that_are_refused(place, predictor):
    video = str(place / "videos/2.mp4")
    (place / "bad.mp4").write_bytes(b"no video")
    for query, message in (
        (Query.of(video, 3.5), "3.5 s lies outside of .*2.mp4, which has 3.00 s"),
        (Query.of(video, -1.0), "lies outside of"),
        (Query.of(video, 2.0, 1.0), "1 s is not after 2 s"),
        (Query.of(str(place / "bad.mp4")), "QUERY: .*bad.mp4: is not a readable video"),
    ):
        with pytest.raises(UserError, match=message):
            query.vector(predictor)


def test_networks_without_words(space, tmp_path):
    predictor = predictor_of(tmp_path, "X3D")
    with pytest.raises(UserError, match="X3D has no text tower: it knows no words"):
        Query.of("a person juggling").vector(predictor)


def test_another_network_is_refused(place, space, tmp_path):
    predictor_of(tmp_path, "X3D")
    with pytest.raises(UserError, match="these are weights of X3D"):
        network_of(space.facts, str(tmp_path / "w.pyth"), "cpu")
    predictor = Network(str(place / "w.pyth"), "cpu").load()
    torch.manual_seed(5)
    changed = {name: value.clone() for name, value in predictor.model.state_dict().items()}
    changed["model.text_projection"] += 1
    from slowfast.models.weights.files import write_weights

    write_weights(tmp_path / "other.pyth", changed, predictor.classes, predictor.cfg.dump())
    with pytest.raises(UserError, match="made by another network than .*other.pyth: weights"):
        network_of(space.facts, str(tmp_path / "other.pyth"), "cpu")
    gone = replace(space.facts, checkpoint=str(tmp_path / "gone.pyth"))
    with pytest.raises(UserError, match="gone.pyth, is not there\n.*--checkpoint"):
        network_of(gone)
    shutil.copy(place / "w.pyth", tmp_path / "moved.pyth")
    assert network_of(gone, str(tmp_path / "moved.pyth"), "cpu").classes == predictor.classes


def test_results_for_programs_and_people():
    hits = [
        Hit(0.98765432, "a,b.mp4", 1.0, 3.0, [("left", 0.75), ("right", 0.25)]),
        Hit(-0.5, "whole.mp4", None, None, []),
    ]
    first, second = json.loads(as_json(hits))
    assert first == {
        "similarity": 0.987654,
        "path": "a,b.mp4",
        "start": 1.0,
        "end": 3.0,
        "classes": {"left": 0.75, "right": 0.25},
    }
    assert second["start"] is None and second["classes"] == {}
    rows = list(csv.DictReader(io.StringIO(as_csv(hits))))
    assert rows[0]["path"] == "a,b.mp4" and rows[0]["class"] == "left" and rows[1]["start"] == ""
    lines = as_table(hits).splitlines()
    assert lines[1].split() == ["1", "0.9877", "1.00", "to", "3.00", "left", "a,b.mp4"]
    assert lines[2].endswith("whole.mp4") and not math.isnan(hits[1].similarity)


def test_files_say_which_network(place, space):
    facts = VectorFile(space.files[0].path).facts
    assert facts.network == "TemporalClipVideo" and facts.checkpoint == str(place / "w.pyth")
    assert facts.configuration["CLIP.TEMPLATES"] == ["a {}.", "one who is {}."]


def test_the_lines_of_the_document(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "out", "embeddings")
    shutil.copy(place / "videos/0.mp4", "video.mp4")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/embeddings.md").read_text(), re.S)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["table"].num_rows == 12 and names["facts"]["network"] == "TemporalClipVideo"
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert [answer.features.shape for answer in names["answers"]] == [(32,)] * 2
