"""Several processes on the CPU: the same training as one, and clear words when one is missing."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import torch

from slowfast.analysis.results import tests_of
from slowfast.config.load import load_config
from slowfast.engine import launch as launch_module
from slowfast.engine.run import run_job
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.distributed import ProcessInfo
from slowfast.utils.errors import UserError
from tests.conftest import TINY, words
from tests.engine.processes import Run, assert_same_state, stats
from tests.engine.test_multigrid import GRID, NETWORK

RUN = {
    "SOLVER.OPTIMIZING_METHOD": "sgd",
    "SOLVER.BASE_LR": 0.05,
    "UNIFORMER.DROP_DEPTH_RATE": 0,
    "SOLVER.MAX_EPOCH": 2,
    "SOLVER.ACCUM_STEPS": 2,
    "TRAIN.BATCH_SIZE": 4,
    "TEST.BATCH_SIZE": 24,
    "DATA.MAX_ERROR_SHARE": 0.5,
    "TRAIN.DATASET": "kinetics",
    "TEST.DATASET": "kinetics",
    "LOG_PERIOD": 1,
    "EMA.ENABLE": True,
    "SOLVER.CLIP_GRAD_L2NORM": 1.0,
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def write_lists(folder: Path, shapes: Path) -> Path:
    """16 + 4 training videos, 8 + 1 test videos; the additional ones cannot be read."""
    for split, broken in (("train", 4), ("val", 1), ("test", 1)):
        rows = [f"{shapes}/{line}" for line in (shapes / f"{split}.csv").read_text().splitlines()]
        if split == "train":
            (folder / "good.csv").write_text("\n".join(rows) + "\n")
        for number in range(broken):
            bad = folder / f"{split}{number}.mp4"
            bad.write_bytes(b"not a video")
            rows.append(f"{bad} {number % 4}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory, shapes) -> Path:
    return write_lists(tmp_path_factory.mktemp("lists"), shapes)


@pytest.fixture
def start(tmp_path, lists):
    return rank_starter(tmp_path, lists)


def rank_starter(folder: Path, lists: Path):
    """``start("name", world, {"KEY": value}, ranks)`` -> a running process for each rank."""
    config = folder / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")

    def begin(
        name: str, world: int, extra: dict | None = None, ranks=None, shards: bool = False
    ) -> list[Run]:
        values = TINY | RUN | {"DATA.PATH_TO_DATA_DIR": str(lists)} | (extra or {})
        values["OUTPUT_DIR"] = str(folder / name)
        common = {
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(free_port()),
        }
        ranks = range(world) if ranks is None else ranks
        if shards:
            meet = ["--num_shards", str(world), "--init_method", f"tcp://localhost:{free_port()}"]
            return [Run(config, values, [*meet, "--shard_id", str(r)], tag=str(r)) for r in ranks]
        return [
            Run(config, values, env=common | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in ranks
        ]

    return begin


def finish(runs: list[Run], code: int = 0) -> Path:
    for run in runs:
        assert run.wait(120) == code, run.console[-3000:]
    return runs[0].out


def state(out: Path, epoch: int = 2) -> dict:
    return read_checkpoint(out / "checkpoints" / f"checkpoint_epoch_{epoch:05d}.pyth")


def assert_close(a: dict, b: dict, limit: float = 1e-4) -> None:
    for part in ("model_state", "ema_state"):
        for name, value in a[part].items():
            assert torch.allclose(value.double(), b[part][name].double(), atol=limit), name


def figures(out: Path) -> list[tuple]:
    return [
        (row["_type"], row["epoch"], row["bad_items"], row.get("loss", 0))
        for row in stats(out)
        if row["_type"] in ("train_epoch", "val_epoch")
    ]


# Unreadable videos leave ranks with unequal numbers of clips, or none; the statistics of a batch
# are those of all ranks, and precise ones those of all batches.
KINDS = {
    "unreadable": {"MODEL.FROZEN_BN": True},
    "statistics": {
        "BN.NORM_TYPE": "sync_batchnorm",
        "BN.USE_PRECISE_STATS": True,
        "DATA.TRAIN_LIST": "good.csv",
    },
}


@pytest.fixture(scope="module", params=KINDS)
def alone(request, tmp_path_factory, lists):
    """(what is special, the folder of one process with the whole batch)."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "run.yaml").write_text("NUM_GPUS: 0\n")
    values = TINY | RUN | {"DATA.PATH_TO_DATA_DIR": str(lists), "OUTPUT_DIR": str(folder / "out")}
    run = Run(folder / "run.yaml", values | KINDS[request.param])
    return KINDS[request.param], finish([run])


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_are_one(start, alone, world):
    extra, one = alone
    out = finish(start("many", world, extra))
    assert_close(state(one), state(out))
    for ours, theirs in zip(figures(one), figures(out), strict=True):
        assert ours[:3] == theirs[:3] and ours[3] == pytest.approx(theirs[3], abs=1e-3)
    # each video once, those that cannot be read named once, and rank 0 alone has written
    final = stats(out, "test_final")[-1]
    assert final["videos"] == 8 and final["bad_items"] == 1
    assert final["top1_acc"] == stats(one, "test_final")[-1]["top1_acc"]
    (test,) = tests_of(out)
    rows = test.predictions()
    assert len({row["path"] for row in rows}) == len(rows) == 8
    bad = (out / "bad_items.tsv").read_text().splitlines()
    assert len(bad) == len(set(bad)) == (2 if "DATA.TRAIN_LIST" in extra else 6)
    assert len(stats(out, "train_epoch")) == 2
    assert not list(out.glob("stdout_rank*.log"))


def normalisation(kind: str, **keys) -> dict:
    """A training whose batch-norm statistics are recomputed, without unreadable videos."""
    statistics = {"BN.USE_PRECISE_STATS": True, "DATA.TRAIN_LIST": "good.csv"}
    return statistics | {"BN.NORM_TYPE": kind} | {f"BN.{name}": n for name, n in keys.items()}


def test_parts_of_a_batch_are_the_same_in_two_processes(start):
    """Each clip is a part: statistics of four parts, or of two in each of two processes."""
    one = finish(start("one", 1, normalisation("sub_batchnorm", NUM_SPLITS=4)))
    out = finish(start("two", 2, normalisation("sub_batchnorm", NUM_SPLITS=2)))
    alone, two = state(one)["model_state"], state(out)["model_state"]
    names = [name for name in alone if "split_bn" not in name]
    assert any(name.endswith("bn.running_var") for name in names)
    for name in names:
        assert torch.allclose(alone[name].double(), two[name].double(), atol=1e-4), name
    assert stats(out, "test_final")[-1]["videos"] == 8


def test_statistics_of_groups_are_those_of_larger_batches(start):
    """Two groups of two processes are two processes that have twice as many clips each."""
    two = finish(start("two", 2, normalisation("batchnorm")))
    out = finish(start("four", 4, normalisation("sync_batchnorm", NUM_SYNC_DEVICES=2)))
    assert_close(state(two), state(out))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_multigrid_training_is_the_same_in_two_processes(start, strategy):
    """Batches are too small for every process alone: all phases share statistics, small clips two
    parts of four, those of full size one over both processes."""
    grid = (GRID | NETWORK) | {
        "TRAIN.BATCH_SIZE": 2,
        "MODEL.DROPOUT_RATE": 0.0,
        "MULTIGRID.EPOCH_FACTOR": 1.5,
        "MULTIGRID.EVAL_FREQ": 1,
        "MULTIGRID.BN_BASE_SIZE": 100,
        "SOLVER.BASE_LR": 0.002,  # of small networks rounding would grow to thousandths
        "DATA.TRAIN_LIST": "good.csv",
        "DIST.STRATEGY": strategy,
        "BN.USE_PRECISE_STATS": True,
        "BN.NUM_BATCHES_PRECISE": 2,
    }
    one = finish(start("one", 1, grid))
    out = finish(start("two", 2, grid))
    text = (out / "stdout.log").read_text()
    assert text.count("normalised over 2 processes") >= 2
    assert_close(state(one, 4), state(out, 4))
    assert stats(out, "test_final")[-1]["videos"] == 8


def test_groups_that_do_not_divide_the_processes_are_refused(start):
    for run in start("uneven", 3, normalisation("sync_batchnorm", NUM_SYNC_DEVICES=2)):
        assert run.wait() == 2
        assert "3 processes do not divide into groups of 2" in run.console


def test_shards_are_the_whole(start):
    """FSDP2: the same training; what it saves is read and tested by one process."""
    sharded = {"DIST.STRATEGY": "fsdp", "MODEL.FROZEN_BN": True}
    whole = finish(start("whole", 2, sharded | {"DIST.STRATEGY": "ddp"}))
    out = finish(start("sharded", 2, sharded))
    assert_close(state(whole), state(out))
    assert state(out)["optimizer_state"]["state"][0]["momentum_buffer"].shape == (
        state(whole)["optimizer_state"]["state"][0]["momentum_buffer"].shape
    )
    one = finish(
        start(
            "tested",
            1,
            sharded
            | {
                "TRAIN.ENABLE": False,
                "TEST.CHECKPOINT_FILE_PATH": str(
                    out / "checkpoints" / "checkpoint_epoch_00002.pyth"
                ),
            },
        )
    )
    assert stats(one, "test_final")[-1]["top1_acc"] == stats(out, "test_final")[-1]["top1_acc"]


def test_clip_in_shards(start):
    """Texts, single numbers, the average of both, and another optimizer; validated and tested."""
    values = dict(MODEL_REGISTRY.get("TemporalClipVideo").spec.test_overrides) | {
        "MODEL.MODEL_NAME": "TemporalClipVideo",
        "CLIP.TRAINED": ["visual", "text_projection", "logit_scale"],
        "SOLVER.OPTIMIZING_METHOD": "adamw",
        "SOLVER.BASE_LR": 1e-4,
        "SOLVER.MAX_EPOCH": 1,
        "DATA.TRAIN_LIST": "good.csv",
    }
    whole = finish(start("whole", 2, values))
    out = finish(start("sharded", 2, values | {"DIST.STRATEGY": "fsdp"}))
    assert_close(state(whole, 1), state(out, 1))
    assert state(out, 1)["model_state"]["model.logit_scale"].shape == ()
    assert stats(out, "test_final")[-1]["videos"] == 8


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_signal_stops_all_and_all_go_on(start, strategy):
    """A signal to one rank: every rank saves and leaves; the rest of the run is the same."""
    extra = {
        "UNIFORMER.DROP_DEPTH_RATE": 0.3,
        "TEST.ENABLE": False,
        "DIST.STRATEGY": strategy,
        "SOLVER.OPTIMIZING_METHOD": "adamw",
    }
    whole = finish(start("whole", 2, extra))
    runs = start("stopped", 2, extra)
    assert runs[0].wait_for(lambda: len(stats(runs[0].out, "train_iter")) >= 3)
    runs[1].signal(signal.SIGTERM)
    finish(runs, code=143)
    out = finish(start("stopped", 2, extra))
    assert "resume" in {row["_type"] for row in stats(out)}
    assert_same_state(state(whole), state(out))


def test_a_killed_rank_is_named(start):
    runs = start("killed", 2, {"SOLVER.MAX_EPOCH": 1000})
    assert runs[0].wait_for(lambda: len(stats(runs[0].out, "train_iter")) >= 3)
    runs[1].signal(signal.SIGKILL)
    assert runs[0].wait() == 1
    assert "rank 1 of 2 stopped answering" in runs[0].console
    assert "goes on from the last checkpoint" in runs[0].console


def test_a_rank_that_does_not_come_is_named(start):
    (run,) = start("waiting", 3, {"DIST.TIMEOUT": 2}, ranks=[0])
    assert run.wait() == 1
    assert "rank 1, 2 of 3 did not come within 2 s" in run.console
    (run,) = start("searching", 2, {"DIST.TIMEOUT": 2}, ranks=[1])
    assert run.wait() == 1
    assert "rank 1 cannot reach rank 0 at localhost" in run.console


def test_shards_meet_at_an_address(start):
    """``--num_shards``: machines of one process each; every one reads TRAIN.BATCH_SIZE videos."""
    extra = {"MODEL.FROZEN_BN": True}
    one = finish(start("one", 1, extra))
    out = finish(start("shards", 2, extra | {"TRAIN.BATCH_SIZE": 2}, shards=True))
    assert_close(state(one), state(out))


def children(out: Path, count: int, values: dict) -> None:
    """A process a 'GPU', as NUM_GPUS > 1 starts them, on the CPU."""
    cfg = load_config(overrides=words(values | {"OUTPUT_DIR": str(out)}))
    method = f"tcp://localhost:{free_port()}"
    launch_module.run_processes(
        lambda local: ProcessInfo(local, count, local, count, method), cfg, run_job, count
    )


def test_processes_of_our_own(tmp_path, lists, capfd):
    values = TINY | RUN | {"DATA.PATH_TO_DATA_DIR": str(lists), "MODEL.FROZEN_BN": True}
    children(tmp_path / "out", 2, values)
    assert stats(tmp_path / "out", "test_final")[-1]["videos"] == 8
    with pytest.raises(UserError, match="reported an error"):
        children(tmp_path / "out", 2, values | {"SOLVER.MAX_EPOCH": 7})
    assert "SOLVER.MAX_EPOCH: is 7, was 2" in capfd.readouterr().err


def test_another_number_of_processes_is_refused(start):
    finish(start("grown", 1, {"SOLVER.MAX_EPOCH": 1, "TEST.ENABLE": False}))
    runs = start("grown", 2, {"SOLVER.MAX_EPOCH": 1, "TEST.ENABLE": False})
    for run in runs:
        assert run.wait() == 2
    assert "number of processes: 2 processes, the run had 1" in runs[0].console


def test_numbers_that_are_not_finite_name_rank_and_video(start):
    runs = start("nan", 2, {"SOLVER.BASE_LR": 1e30, "SOLVER.CLIP_GRAD_L2NORM": None})
    for run in runs:
        assert run.wait() == 2
    text = runs[0].console
    assert "videos of rank 1, loss not finite: " in text and "gradient norm by layer" in text
