"""The benchmark of the loader beside others: it runs, and all read the same number of samples."""

from __future__ import annotations

from slowfast.analysis.speed import loader
from slowfast.analysis.speed.data import RECIPE


def test_three_loaders(video, monkeypatch):
    monkeypatch.setattr(loader, "_VIDEOS", 4)
    small = {"DATA.TRAIN_CROP_SIZE": 32, "DATA.TEST_CROP_SIZE": 32}
    small |= {"DATA.TRAIN_JITTER_SCALES": [36, 40], "DATA.NUM_FRAMES": 4, "DATA.SAMPLING_RATE": 1}
    monkeypatch.setattr(loader, "RECIPE", RECIPE | small)
    result = loader.benchmark_loader([str(video)] * 2, rounds=1, workers=1, batch=4)
    for kind in ("usual", "one_slow"):
        for name in ("ours", "by_batches", "pyslowfast"):
            figures = result[kind][name]
            assert figures["samples_per_s"] > 0
            assert 0 < figures["first_s"] <= figures["longest_s"]
        assert result[kind]["ours/by_batches"] > 0 and result[kind]["ours/pyslowfast"] > 0
