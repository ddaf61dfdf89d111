"""The benchmark of shards: it runs, and all read the same number of samples."""

from __future__ import annotations

import pytest

from slowfast.analysis.speed import shards
from slowfast.analysis.speed.data import RECIPE


def test_places_of_videos(video, monkeypatch, capfd):
    pytest.importorskip("webdataset")
    small = {"DATA.TRAIN_CROP_SIZE": 32, "DATA.TEST_CROP_SIZE": 32}
    small |= {"DATA.TRAIN_JITTER_SCALES": [36, 40], "DATA.NUM_FRAMES": 4, "DATA.SAMPLING_RATE": 1}
    monkeypatch.setattr(shards, "RECIPE", RECIPE | small)
    result = shards.benchmark_shards(str(video), rounds=1, workers=1, batch=4, videos=8)
    for name in ("floor", "files", "shards", "s3", "webdataset"):
        assert result[f"{name}_per_s"] > 0
    assert result["shards/files"] > 0 and result["s3/floor"] > 0 and result["shards/webdataset"] > 0
