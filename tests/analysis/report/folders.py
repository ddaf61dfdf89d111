"""Output folders as runs leave them, made by hand for the tests of the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from slowfast.engine.result_files import (
    EPISODES,
    ScoreTable,
    episode_class_rows,
    write_csv,
    write_multi_label,
    write_recognition,
)
from slowfast.metrics.classes import ClassFigures


def write_history(folder: Path, accuracies: Sequence[float]) -> None:
    """``stats.jsonl`` of a training whose validations gave ``accuracies`` in percent."""
    rows = []
    for epoch, accuracy in enumerate(accuracies, 1):
        name = f"{epoch}/{len(accuracies)}"
        for step in (1, 2):
            line = {"iter": f"{step}/2", "loss": 3 / epoch, "lr": 0.1, "top1_err": 50.0}
            rows.append({"_type": "train_iter", "epoch": name} | line)
        line = {"loss": 2 / epoch, "lr": 0.1 / epoch, "top1_err": 60.0, "top5_err": 9.0}
        rows.append({"_type": "train_epoch", "epoch": name, "gpu_mem": "0.00G"} | line)
        line = {"top1_err": 100 - accuracy, "min_top1_err": 0.0, "videos": 9, "bad_items": 0}
        rows.append({"_type": "val_epoch", "epoch": name} | line)
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "stats.jsonl").write_text(text)


def write_test(
    folder: Path,
    names: Sequence[str],
    labels: Sequence[int],
    guesses: Sequence[int],
    paths: Sequence[str] = (),
    fingerprint: str = "same list",
    **facts: object,
) -> Path:
    """``folder/tests/set-test-1x3`` of videos with these labels and predictions."""
    count = len(labels)
    scores = torch.full((count, len(names)), 0.1)
    sure = torch.linspace(1, 2, count)[:, None]
    scores.scatter_(1, torch.tensor(guesses)[:, None], sure)
    scores /= scores.sum(1, keepdim=True)
    table = ScoreTable(
        list(paths) or [f"/videos/set/{number:03d}.mp4" for number in range(count)],
        torch.tensor(labels),
        scores,
        torch.ones(count, dtype=torch.int64),
        list(names),
        "sum",
        "softmax",
    )
    test = folder / "tests" / "set-test-1x3"
    test.mkdir(parents=True)
    write_recognition(table, test)
    top1 = 100 * float(np.mean(np.array(labels) == np.array(guesses)))
    recall = ClassFigures.of_scores(scores, torch.tensor(labels)).recall
    figures = {"top1_acc": top1, "mean_class_accuracy": float(recall.nanmean())}
    if len(names) > 5:
        figures["top5_acc"] = 99.0
    return _finish(test, names, figures, count, fingerprint, facts)


def write_several_labels(
    folder: Path, names: Sequence[str], labels: Sequence[Sequence[int]]
) -> Path:
    """``folder/tests/set-test-1x3`` of videos with several labels each (rows of 0 and 1)."""
    targets = torch.tensor(labels)
    count = len(targets)
    table = ScoreTable(
        [f"/videos/set/{number:03d}.mp4" for number in range(count)],
        targets,
        torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)),
        torch.ones(count, dtype=torch.int64),
        list(names),
        "sum",
        "sigmoid",
    )
    test = folder / "tests" / "set-test-1x3"
    test.mkdir(parents=True)
    write_multi_label(table, test)
    return _finish(test, names, {"map": 0.625}, count, "same list", {"multi_label": True})


def write_episodes(
    folder: Path, names: Sequence[str], accuracies: Sequence[float], fingerprint: str = "same list"
) -> Path:
    """``folder/tests/set-test-5w1s`` of a few-shot test."""
    test = folder / "tests" / "set-test-5w1s"
    test.mkdir(parents=True)
    write_csv(test / EPISODES, ["episode", "accuracy"], enumerate(accuracies))
    counts = {label: (label + 1, 10) for label in range(len(names))}
    header = ["label", "name", "queries", "correct", "accuracy"]
    write_csv(test / "classes.csv", header, episode_class_rows(counts, names))
    figures = {"top1_acc": float(np.mean(accuracies)), "interval": 1.0}
    return _finish(test, names, figures, 40, fingerprint, {"task": "fewshot"})


def _finish(
    test: Path,
    names: Sequence[str],
    figures: dict[str, float],
    videos: int,
    fingerprint: str,
    facts: dict[str, object],
) -> Path:
    content = {
        "name": test.name,
        "task": "recognition",
        "split": "test",
        "list": "lists/set/test.csv",
        "fingerprint": fingerprint,
        "views": "1x3",
        "checkpoint": {"path": "best.pyth", "epoch": 3, "sha256": "0", "classes": list(names)},
        "model": "Uniformer",
        "figures": figures,
        "videos": videos,
        "unreadable": 1,
        "started": "2026-01-02T03:04:05",
        "seconds": 61.0,
        "version": "0.1.0",
        "classes": list(names),
    }
    (test / "test.json").write_text(json.dumps(content | facts))
    (test / "config.yaml").write_text("MODEL:\n  MODEL_NAME: Uniformer\n")
    return test
