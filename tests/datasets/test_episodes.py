"""Samples and batches of episodes, decoded and of embeddings."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch import BadItem
from slowfast.datasets.embedded_episodes import EmbeddedEpisodes
from slowfast.datasets.episodes import (
    DecodedEpisodes,
    EpisodePlan,
    build_clip_reader,
    collate_episodes,
)
from slowfast.datasets.fewshot_lists import read_clips
from slowfast.utils.errors import VideoError
from tests.fewshot import fewshot_cfg

ALL = {"FEWSHOT.QUERY_CLASSES": "all", "FEWSHOT.TRAIN_EPISODES": 20}


def plan_of(cfg, split) -> EpisodePlan:
    return EpisodePlan.from_cfg(cfg, split, read_clips(cfg, split))


def decoded(cfg, split="train") -> DecodedEpisodes:
    return DecodedEpisodes(plan_of(cfg, split), build_clip_reader(cfg, split))


def test_a_sample(compositions):
    data = decoded(fewshot_cfg(compositions, ALL))
    sample = data[SampleKey(1, 3)]
    assert sample["video"].shape == (6, 3, 4, 32, 32) and sample["video"].dtype == torch.uint8
    assert sample["label"].tolist() == [0, 1, 2] and sample["way"] == 3
    assert sample["index"] == 23 and sample["replaced"] == []
    names = [path.split("/")[-2] for path in sample["path"]]
    assert names[:3] == names[3:]
    assert names[3:] == [data.item_list.class_names[i] for i in sample["global_label"]]


def test_training_draws_other_clips_in_every_epoch(compositions):
    data = decoded(fewshot_cfg(compositions, ALL))
    sample = data[SampleKey(1, 3)]
    again = decoded(fewshot_cfg(compositions, ALL))[SampleKey(1, 3)]
    assert again["video"].equal(sample["video"]) and again["path"] == sample["path"]
    assert data[SampleKey(2, 3)]["path"] != sample["path"]


def test_tests_repeat_their_episodes_and_frames(compositions):
    data = decoded(fewshot_cfg(compositions), "test")
    sample = data[SampleKey(0, 4)]
    assert data[SampleKey(1, 4)]["video"].equal(sample["video"])
    jittered = decoded(fewshot_cfg(compositions, {"FEWSHOT.TEST_JITTER": True}), "test")
    again = jittered[SampleKey(1, 4)]
    assert again["path"] == sample["path"]
    assert not again["video"].equal(sample["video"])
    assert again["video"].equal(jittered[SampleKey(0, 4)]["video"])


def test_sizes_and_description(compositions):
    data = decoded(fewshot_cfg(compositions, {"FEWSHOT.TEST_EPISODES": 9}), "test")
    assert len(data) == 9 and data.videos_per_pass == 9 * 4
    assert data.describe().endswith("test.txt: 24 clips of 8 classes, 9 episodes")


# -- unreadable clips ------------------------------------------------------------------------------


def break_clip(compositions, folder) -> str:
    """A copy of the set whose first support clip of test episode 0 is empty; its path."""
    shutil.copytree(compositions, folder)
    path = decoded(fewshot_cfg(folder), "test")[SampleKey(0, 0)]["path"][0]
    with open(path, "wb"):
        pass
    return path


def test_an_unreadable_clip_is_replaced_and_named(compositions, tmp_path):
    folder = tmp_path / "set"
    path = break_clip(compositions, folder)
    for first in (0, 7):  # whether the clip was met before or not
        data = decoded(fewshot_cfg(folder), "test")
        data[SampleKey(0, first)]
        batch = collate_episodes([data[SampleKey(0, 0)]])
        assert [item.path for item in batch.bad] == [path]
        assert path not in batch.path and len(batch.path) == 4
    with pytest.raises(VideoError):
        decoded(fewshot_cfg(folder, {"DATA.ON_ERROR": "raise"}), "test")[SampleKey(0, 0)]


def test_one_rule_for_clips_and_embeddings(compositions, tmp_path):
    folder = tmp_path / "set"
    path = break_clip(compositions, folder)
    plan = plan_of(fewshot_cfg(folder), "test")
    items = plan.item_list.items
    index = next(i for i, item in enumerate(items) if item.path == path)
    clips = decoded(fewshot_cfg(folder), "test")
    embedded = EmbeddedEpisodes(
        plan,
        np.arange(len(items), dtype=np.float32)[:, None],
        {index: BadItem(index, path, items[index].line, "empty")},
    )
    for number in range(20):
        one, other = clips[SampleKey(0, number)], embedded[SampleKey(0, number)]
        assert one["path"] == other["path"] and one["label"].equal(other["label"])
        assert [bad.index for bad in one["replaced"]] == [bad.index for bad in other["replaced"]]
        paths = [items[int(value)].path for value in other["features"].flatten()]
        assert paths == other["path"] and path not in paths
    strict = EmbeddedEpisodes(
        dataclasses.replace(plan, on_error="raise"), embedded.embeddings, embedded.unreadable
    )
    with pytest.raises(VideoError, match="empty"):
        strict[SampleKey(0, 0)]


def test_an_episode_without_readable_clips_names_one_of_them(compositions):
    cfg = fewshot_cfg(compositions)
    plan = plan_of(cfg, "test")
    items = plan.item_list.items
    label = plan.sampler.draw(0).classes[1]
    bad = {
        i: BadItem(i, item.path, item.line, f"cause {i}")
        for i, item in enumerate(items)
        if item.label != label and i % 3 == 0 or item.label == label
    }
    sample = EmbeddedEpisodes(plan, np.zeros((len(items), 2), np.float32), bad)[SampleKey(0, 0)]
    assert isinstance(sample, BadItem) and sample.index == 0
    assert sample.path == f"class {plan.item_list.class_names[label]!r}"
    assert any(items[i].path in sample.cause for i in bad if items[i].label == label)


# -- batches ---------------------------------------------------------------------------------------


def embedded_episodes(compositions) -> EmbeddedEpisodes:
    plan = plan_of(fewshot_cfg(compositions, ALL), "test")
    embeddings = np.random.default_rng(0).random((24, 5, 2)).astype(np.float32)
    return EmbeddedEpisodes(plan, embeddings, {})


def test_a_batch_of_embedded_episodes(compositions):
    data = embedded_episodes(compositions)
    bad = BadItem(2, "class 'a'", 0, "unreadable")
    batch = collate_episodes([data[SampleKey(0, 1)], bad, data[SampleKey(0, 3)]])
    assert batch.video is None and batch.bad == [bad]
    assert batch.episode.features.shape == (2, 6, 5, 2) and batch.episode.way == 3
    assert batch.episode.numbers == batch.index.tolist() == [1, 3]
    assert batch.label.shape == batch.episode.global_label.shape == (2, 3)
    assert batch.size == 6 and len(batch.path) == 12
    indices = data.plan.sampler.draw(3).indices
    assert np.array_equal(batch.episode.features[1].numpy(), data.embeddings[indices])


def test_a_batch_of_nothing(compositions):
    bad = BadItem(2, "class 'a'", 0, "unreadable")
    batch = collate_episodes([bad])
    assert batch.size == 0 and batch.video is None and batch.bad == [bad]


def test_episodes_as_json_lines(compositions):
    cfg = fewshot_cfg(compositions, {"FEWSHOT.TEST_EPISODES": 3})
    data = decoded(cfg, "test")
    lines = [json.loads(line) for line in data.plan.json_lines()]
    assert [line["episode"] for line in lines] == [0, 1, 2]
    sample = data[SampleKey(0, 2)]
    assert lines[2]["support"] + lines[2]["query"] == sample["path"]
    assert lines[2]["query_labels"] == sample["label"].tolist()
    names = [path.split("/")[-2] for path in lines[2]["support"]]
    assert lines[2]["classes"] == names


# -- pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, mean, std, first, inner",
    [
        ((240, 320), 0.500367, 0.245105, (177, 217, 158), (102, 142, 182)),
        ((256, 256), 0.500133, 0.289818, (164, 204, 244), (235, 19, 59)),
        ((360, 640), 0.500239, 0.173293, (134, 174, 214), (193, 168, 87)),
        ((128, 171), 0.501244, 0.258698, (202, 242, 26), (123, 163, 203)),
        ((320, 240), 0.500569, 0.245007, (98, 138, 178), (45, 55, 95)),
        ((241, 333), 0.500324, 0.244501, (219, 3, 43), (215, 21, 61)),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_are_those_of_the_release(tmp_path, size, mean, std, first, inner, split):
    """Resized by PIL, cropped in the centre: check values of the release for a synthetic picture."""
    extra = {
        "DATA.ANTIALIAS": True,
        "DATA.TRAIN_CROP_PLACE": "centre",
        "DATA.TRAIN_JITTER_SCALES": [256, 256],
        "DATA.TRAIN_CROP_SIZE": 224,
        "DATA.TEST_CROP_SIZE": 224,
    }
    reader = build_clip_reader(fewshot_cfg(tmp_path, extra), split)
    y, x, c = np.meshgrid(*map(np.arange, (*size, 3)), indexing="ij")
    picture = ((3 * y + 5 * x + 40 * c + (x * y) // 7) % 256).astype(np.uint8)[None]
    if split == "train":
        video = reader.pipeline(picture, np.random.default_rng(0))[0]
    else:
        video = reader.pipeline([picture])[0]
    pixels = video[:, 0].double() / 255  # C H W
    assert pixels.mean().item() == pytest.approx(mean, abs=2e-4)
    assert pixels.std(correction=0).item() == pytest.approx(std, abs=4e-4)
    for place, expected in (((0, 0), first), ((100, 50), inner)):
        assert np.abs(video[(slice(None), 0, *place)].int().numpy() - expected).max() <= 2
