"""Checkpoints with odd contents: one clear error, whatever continues from them or tests them."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine import checkpoint, initial
from slowfast.engine.launch import launch
from slowfast.engine.network import build_network
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from tests.conftest import TINY, words

RUN = TINY | {
    "MODEL.MODEL_NAME": "FrameAverage",
    "FRAME_AVERAGE.WIDTHS": [4],
    "EMA.ENABLE": True,
    "TRAIN.DATASET": "moving_shapes",
    "TEST.DATASET": "moving_shapes",
    "TEST.ENABLE": False,
    "TENSORBOARD.ENABLE": False,
    "SOLVER.MAX_EPOCH": 1,
}
Content = dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shapes) -> tuple[dict, Path]:
    """Keys of a run, and its only checkpoint."""
    out = tmp_path_factory.mktemp("finished") / "out"
    values = RUN | {"DATA.PATH_TO_DATA_DIR": shapes}
    launch(load_config(overrides=words(values | {"OUTPUT_DIR": out})), run_job)
    return values, checkpoint.run_checkpoints(out)[0]


def put(*path: Any) -> Callable[[Content], None]:
    """``put("a", "b", value)``: sets ``content["a"]["b"]``; a name of "first" is the first key."""

    def change(content: Content) -> None:
        *names, last, value = path
        for name in names:
            content = content[next(iter(content)) if name == "first" else name]
        content[next(iter(content)) if last == "first" else last] = value

    return change


def drop(*path: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        for name in path[:-1]:
            content = content[name]
        del content[next(iter(content)) if path[-1] == "first" else path[-1]]

    return change


def no_numbers(part: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        for value in content[part].values():
            if value.is_floating_point():
                value.fill_(float("nan"))

    return change


ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
)
FLOATS = torch.zeros(5056)
CASES: dict[str, tuple[Callable[[Content], None], str]] = {
    "no cfg": (drop("cfg"), "holds no cfg"),
    "cfg is a number": (put("cfg", 3), "cfg in .* is not a text"),
    "cfg of aliases": (put("cfg", ALIASES), "more than .* values"),
    "cfg is a list": (put("cfg", "- 1\n"), "holds no keys"),
    "cfg is no YAML": (put("cfg", "a: [1"), "configuration"),
    "cfg with a tag": (put("cfg", "a: !!python/name:os.system"), "tags are not supported"),
    "cfg is deep": (put("cfg", "[" * 5000), "nested"),
    "no optimizer": (drop("optimizer_state"), "holds no optimizer_state"),
    "optimizer is empty": (put("optimizer_state", {}), "optimizer_state"),
    "other groups": (put("optimizer_state", "param_groups", []), "does not fit this run"),
    "other moments": (
        put("optimizer_state", "state", "first", "exp_avg", torch.zeros(3)),
        r"exp_avg of shape \(3,\)",
    ),
    "moments are a number": (put("optimizer_state", "state", "first", 5), "no moments"),
    "another shape": (put("model_state", "first", torch.zeros(2, 3)), "another architecture"),
    "a weight is missing": (drop("model_state", "first"), "another architecture"),
    "a weight too many": (put("model_state", "z", torch.zeros(1)), "another architecture"),
    "a weight is a number": (put("model_state", "first", 3), "model_state"),
    "a name is a number": (put("model_state", 5, torch.zeros(1)), "model_state"),
    "epoch is a text": (put("epoch", "x"), "epoch in .* is not a whole number"),
    "epoch is huge": (put("epoch", 10**50), "epoch in .* is not a whole number"),
    "generators are a number": (put("rng_state", 3), "rng_state"),
    "no generators": (put("rng_state", {"ranks": []}), "rng_state"),
    "generators of another kind": (
        put("rng_state", "ranks", [{"torch": FLOATS}]),
        "does not fit this run",
    ),
    "average is incomplete": (drop("ema_state", "first"), "another architecture"),
    "average is a number": (put("ema_state", 3), "ema_state"),
    "weights are not finite": (no_numbers("model_state"), "not finite"),
    "average is not finite": (no_numbers("ema_state"), "not finite"),
    "best is a text": (put("progress", {"best_score": "x"}), "progress"),
    "position is a number": (put("sampler_state", 3), "sampler_state"),
    "position is negative": (put("sampler_state", "iteration", -4), "sampler_state"),
    "epoch without statistics": (
        put("inside_epoch", {"bad": 1, "said": False, "journal": {"meter": {"size": 3}}}),
        "inside_epoch",
    ),
    "losses are a text": (put("recent_losses", "abc"), "recent_losses"),
    "processes are a text": (put("world", "1"), "world"),
    "list is a number": (put("data", 7), "data in"),
    "callbacks are a list": (put("callbacks", [1]), "callbacks"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_does_not_continue_from_it(finished, tmp_path, name):
    """Even a finished run, which would have nothing left to do."""
    values, path = finished
    change, message = CASES[name]
    content = read_checkpoint(path)
    change(content)
    odd = tmp_path / "checkpoints" / path.name
    odd.parent.mkdir()
    torch.save(content, odd)
    cfg = load_config(overrides=words(values | {"OUTPUT_DIR": tmp_path}))
    with pytest.raises(UserError, match=message) as caught:
        launch(cfg, run_job)
    text = str(caught.value)
    assert str(odd) in text and "\n    -> " in text and text.startswith("TRAIN.AUTO_RESUME: ")


TESTED = {
    "average is incomplete": "another architecture",
    "average is a number": "another architecture",
    "average is not finite": "not finite",
    "class names are a number": "class_names",
}


@pytest.mark.parametrize("name", TESTED)
def test_it_is_not_tested(finished, tmp_path, name):
    values, path = finished
    content = copy.deepcopy(read_checkpoint(path))
    change = put("class_names", 5) if name not in CASES else CASES[name][0]
    change(content)
    torch.save(content, tmp_path / "odd.pyth")
    named = {"OUTPUT_DIR": tmp_path, "TEST.CHECKPOINT_FILE_PATH": tmp_path / "odd.pyth"}
    cfg = load_config(overrides=words(values | named))
    with pytest.raises(UserError, match=TESTED[name]) as caught:
        _ = initial.load_tested_weights(cfg, build_network(cfg)).class_names
    assert "odd.pyth" in str(caught.value)


def test_nan_is_no_start(finished, tmp_path):
    values, path = finished
    content = read_checkpoint(path)
    no_numbers("model_state")(content)
    torch.save({"model_state": content["model_state"]}, tmp_path / "nan.pyth")
    cfg = load_config(
        overrides=words(values | {"TRAIN.CHECKPOINT_FILE_PATH": tmp_path / "nan.pyth"})
    )
    with pytest.raises(UserError, match=r"nan.pyth holds numbers that are not finite in \d+"):
        initial.load_initial_weights(cfg, build_network(cfg))


@pytest.mark.parametrize("left", [b"", b"\x80", bytes(3000)], ids=["empty", "a byte", "zeros"])
def test_the_rest_of_a_newest_checkpoint_is_passed_over(finished, tmp_path, left, caplog):
    values, path = finished
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shutil.copy(path, folder)
    newest = checkpoint.mid_epoch_path(tmp_path, 1, 2)
    newest.write_bytes(left)
    with caplog.at_level("WARNING", logger="slowfast"):
        found = checkpoint.read_newest(tmp_path)
    assert found.path.name == path.name and found.content["epoch"] == 0
