"""Whole runs on real video: train, resume, test; what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slowfast.analysis.results import tests_of
from slowfast.config.load import load_config
from slowfast.engine.launch import launch
from slowfast.engine.run import main, parse_command, run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from tests.conftest import words


def run(cfg) -> Path:
    launch(cfg, run_job)
    return Path(cfg.OUTPUT_DIR)


def stats_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]


def last_checkpoint(out: Path) -> dict:
    return read_checkpoint(sorted((out / "checkpoints").glob("checkpoint_epoch_*.pyth"))[-1])


AUGMENTED = {
    "AUG.ENABLE": True,
    "AUG.NUM_SAMPLE": 2,
    "MIXUP.ENABLE": True,
    "MODEL.LOSS_FUNC": "soft_cross_entropy",
    "SOLVER.ACCUM_STEPS": 3,
    "UNIFORMER.DROP_DEPTH_RATE": 0.3,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shapes):
    """One finished run with all the trimmings, looked at by several tests."""
    from tests.conftest import TINY

    out = tmp_path_factory.mktemp("run") / "out"
    values = (
        TINY
        | AUGMENTED
        | {
            "TRAIN.DATASET": "moving_shapes",
            "TEST.DATASET": "moving_shapes",
            "DATA.PATH_TO_DATA_DIR": str(shapes),
            "OUTPUT_DIR": str(out),
            "TENSORBOARD.ENABLE": True,
            "STFM.ENABLE": True,
            "STFM.SELECTION": "straight_through",
            "STFM.NUM_TOKENS": 3,
            "STFM.SIMILAR_LOSS": True,
            "LOG_MODEL_INFO": True,
            "TEST.SAVE_RESULTS_PATH": "scores.pt",
            "BN.USE_PRECISE_STATS": True,
            "SOLVER.MAX_EPOCH": 3,
            "EMA.ENABLE": True,
            "TRAIN.KEEP_CHECKPOINTS": 2,
        }
    )
    cfg = load_config(overrides=words(values))
    return cfg, run(cfg)


def test_files_of_a_run(finished):
    cfg, out = finished
    names = {p.name for p in out.iterdir()}
    assert {
        "stdout.log",
        "stats.jsonl",
        "json_stats.log",
        "config.yaml",
        "scores.pt",
        "tests",
        "checkpoints",
        "runs-moving_shapes",
    } <= names
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == [
        "checkpoint_best.pyth",
        "checkpoint_epoch_00002.pyth",
        "checkpoint_epoch_00003.pyth",
    ]
    (test,) = tests_of(out)
    for file in (out / "config.yaml", test.path / "config.yaml"):
        assert load_config([file]).flat() == cfg.flat()


def test_statistics_lines(finished):
    _, out = finished
    stats = stats_of(out)
    kinds = [s["_type"] for s in stats]
    # 16 clips in batches of 4, three of them a step: two steps an epoch, the second a short one
    assert kinds.count("train_iter") == 3 and kinds.count("train_epoch") == 3
    assert kinds.count("val_epoch") == 3 and kinds[-1] == "test_final"
    step = next(s for s in stats if s["_type"] == "train_iter")
    for key in (
        "epoch",
        "iter",
        "dt",
        "dt_data",
        "dt_net",
        "wait",
        "eta",
        "loss",
        "lr",
        "grad_norm",
        "gpu_mem",
        "top1_err",
        "similar_loss",
    ):
        assert key in step
    assert not any(name.startswith(("top5", "min_top5")) for s in stats for name in s)  # 4 classes
    assert step["epoch"] == "1/3" and step["iter"] == "2/2"
    # Without workers all reading is waiting, before or after the step.
    assert all(0 < s["wait"] < 1 for s in stats if s["_type"] in ("train_iter", "train_epoch"))
    final = stats[-1]
    assert final["split"] == "test_final" and final["videos"] == 8
    assert isinstance(final["top1_acc"], str)
    lines = (out / "json_stats.log").read_text().splitlines()
    assert len(lines) == 7 and all(line.startswith("json_stats: {") for line in lines)
    log = (out / "stdout.log").read_text()
    assert "parameter groups" in log and "GFLOPs" in log and "clips/s" in log and "wait" in log
    assert log.splitlines()[-3].endswith(f"results: {out}/tests/{tests_of(out)[0].name}")


def test_checkpoint_content(finished):
    cfg, out = finished
    content = last_checkpoint(out)
    assert {
        "epoch",
        "iteration",
        "model_state",
        "optimizer_state",
        "scaler_state",
        "ema_state",
        "rng_state",
        "sampler_state",
        "cfg",
        "class_names",
    } <= set(content)
    assert content["epoch"] == 2 and content["iteration"] == 6
    assert content["class_names"] == ["left", "right", "up", "down"]
    assert "NUM_FRAMES: 4" in content["cfg"]
    assert content["ema_state"].keys() == content["model_state"].keys()


def test_results_agree(finished):
    _, out = finished
    saved = torch.load(out / "scores.pt", weights_only=True)
    (test,) = tests_of(out)
    rows, table = test.predictions(), test.scores()
    assert torch.equal(table.scores, saved["scores"]) and table.views.tolist() == [6] * 8
    assert saved["scores"].shape == (8, 4)
    # sum of the soft-max scores of 2 clips x 3 crops
    assert torch.allclose(saved["scores"].sum(1), torch.full((8,), 6.0), atol=1e-4)
    predicted = saved["scores"].argmax(1)
    assert [int(r["prediction"]) for r in rows] == predicted.tolist()
    accuracy = (predicted == saved["labels"]).float().mean().item() * 100
    assert stats_of(out)[-1]["top1_acc"] == f"{accuracy:.2f}"
    assert test.figures["top1_acc"] == pytest.approx(accuracy)
    means = torch.softmax(torch.log(saved["scores"]), 1).max(1).values
    assert [float(r["probability"]) for r in rows] == pytest.approx(means.tolist(), abs=1e-5)
    assert [int(r["correct"]) for r in rows] == (predicted == saved["labels"]).int().tolist()
    assert rows[0]["label_name"] == "left" and rows[0]["path"].endswith("left_0000.mp4")


def test_tensorboard_scalars(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, out = finished
    events = EventAccumulator(str(out / "runs-moving_shapes"))
    events.Reload()
    expected = {"Train/loss", "Train/lr", "Train/Top1_err", "Val/Top1_err"}
    assert expected <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("Train/loss")] == list(range(1, 7))


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_is_bit_for_bit(make_cfg, tmp_path, workers):
    shared = AUGMENTED | {"TEST.ENABLE": False, "EMA.ENABLE": True}
    shared |= {"DATA_LOADER.NUM_WORKERS": workers}
    whole = run(make_cfg(shared | {"SOLVER.MAX_EPOCH": 3, "OUTPUT_DIR": str(tmp_path / "a")}))
    # The same run, its last checkpoint gone, goes on from the one before.
    parts = tmp_path / "b"
    cfg = make_cfg(shared | {"SOLVER.MAX_EPOCH": 3, "OUTPUT_DIR": str(parts)})
    run(cfg)
    for name in ("checkpoint_epoch_00003.pyth", "checkpoint_epoch_00002.pyth"):
        (parts / "checkpoints" / name).unlink()
    run(cfg)
    assert "resuming from" in (parts / "stdout.log").read_text()
    a, b = last_checkpoint(whole), last_checkpoint(parts)
    for part in ("model_state", "ema_state"):
        for name, value in a[part].items():
            assert torch.equal(value, b[part][name]), name
    assert a["iteration"] == b["iteration"]


def test_finished_run_is_not_trained_again(make_cfg):
    cfg = make_cfg({"TEST.ENABLE": False})
    out = run(cfg)
    before = len(stats_of(out))
    run(cfg)
    assert len(stats_of(out)) == before


def test_untrained_weights_are_never_tested(make_cfg):
    with pytest.raises(UserError, match="TEST.CHECKPOINT_FILE_PATH: there are no weights"):
        run(make_cfg({"TRAIN.ENABLE": False}))


def test_checkpoint_of_another_architecture(make_cfg, tmp_path):
    out = run(make_cfg({"TEST.ENABLE": False, "SOLVER.MAX_EPOCH": 1}))
    path = out / "checkpoints" / "checkpoint_epoch_00001.pyth"
    with pytest.raises(UserError, match="another architecture"):
        run(
            make_cfg(
                {
                    "TRAIN.ENABLE": False,
                    "TEST.CHECKPOINT_FILE_PATH": str(path),
                    "UNIFORMER.DEPTH": [1, 1, 2, 1],
                    "OUTPUT_DIR": str(tmp_path / "t"),
                }
            )
        )


def test_chunks_of_views_change_nothing(make_cfg, tmp_path):
    out = run(make_cfg({"SOLVER.MAX_EPOCH": 1, "TEST.SAVE_RESULTS_PATH": "s.pt"}))
    again = run(
        make_cfg(
            {
                "TRAIN.ENABLE": False,
                "TEST.BATCH_SIZE": 4,
                "OUTPUT_DIR": str(tmp_path / "t"),
                "TEST.CHECKPOINT_FILE_PATH": str(out / "checkpoints/checkpoint_epoch_00001.pyth"),
                "TEST.SAVE_RESULTS_PATH": "s.pt",
            }
        )
    )
    a, b = (torch.load(o / "s.pt", weights_only=True)["scores"] for o in (out, again))
    assert torch.allclose(a, b, atol=1e-5)


def test_several_view_counts_and_max(make_cfg):
    out = run(
        make_cfg(
            {
                "TEST.NUM_TEMPORAL_CLIPS": [1, 2],
                "DATA.ENSEMBLE_METHOD": "max",
                "SOLVER.MAX_EPOCH": 1,
            }
        )
    )
    finals = [s for s in stats_of(out) if s["_type"] == "test_final"]
    assert [s["views"] for s in finals] == ["1x3 views", "2x3 views"]
    assert [test.facts["views"] for test in tests_of(out)] == ["1x3", "2x3"]


def broken_lists(folder, shapes, broken: int):
    for split in ("train", "val", "test"):
        rows = [f"{shapes}/{line}" for line in (shapes / f"{split}.csv").read_text().splitlines()]
        for number in range(broken):
            bad = folder / f"{split}{number}.mp4"
            bad.write_bytes(b"not a video")
            rows.append(f"{bad} {number % 4}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return {
        "TRAIN.DATASET": "kinetics",
        "TEST.DATASET": "kinetics",
        "DATA.PATH_TO_DATA_DIR": str(folder),
    }


def test_broken_videos_are_counted(make_cfg, tmp_path, shapes):
    words = broken_lists(tmp_path, shapes, 1)
    out = run(
        make_cfg(
            words
            | {"DATA.MAX_ERROR_SHARE": 0.2, "TRAIN.BATCH_SIZE": 17, "TEST.NUM_SPATIAL_CROPS": 1}
        )
    )
    stats = stats_of(out)
    assert [s["bad_items"] for s in stats if s["_type"] == "train_epoch"] == [1, 1]
    final = stats[-1]
    assert final["videos"] == 8 and final["bad_items"] == 1
    assert float(final["top1_acc_with_bad"]) == pytest.approx(
        float(final["top1_acc"]) * 8 / 9, abs=0.01
    )
    rows = [line.split("\t") for line in (out / "bad_items.tsv").read_text().splitlines()]
    assert [Path(r[2]).name for r in rows] == ["train0.mp4", "val0.mp4", "test0.mp4"]
    assert rows[0][:2] == [str(tmp_path / "train.csv"), "17"]  # named once in two epochs


def test_too_many_broken_videos_stop_the_run(make_cfg, tmp_path, shapes):
    words = broken_lists(tmp_path, shapes, 3)
    with pytest.raises(UserError, match="DATA.MAX_ERROR_SHARE"):
        run(make_cfg(words | {"TRAIN.BATCH_SIZE": 19}))


def test_gpu_that_is_not_there(make_cfg):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="NUM_GPUS: 1 GPU"):
        run(make_cfg({"NUM_GPUS": 1}))
    with pytest.raises(UserError, match="NUM_GPUS: 4 GPU"):
        run(make_cfg({"NUM_GPUS": 4}))


@pytest.mark.parametrize(
    "line, files, overrides",
    [
        ("--cfg a.yaml NUM_GPUS 0", ["a.yaml"], ["NUM_GPUS", "0"]),
        ("--cfg a.yaml --opts NUM_GPUS 0", ["a.yaml"], ["NUM_GPUS", "0"]),
        ("--cfg a.yaml b.yaml DATA.MEAN [0,0,0]", ["a.yaml", "b.yaml"], ["DATA.MEAN", "[0,0,0]"]),
        ("--cfg a.yaml --num_shards 2 LOG_PERIOD 3", ["a.yaml"], ["LOG_PERIOD", "3"]),
        ("--cfg a.yaml NO.SUCH 3", ["a.yaml"], ["NO.SUCH", "3"]),
        ("--cfg a.yaml SOLVER.BASE_LR -1 --dry-run", ["a.yaml"], ["SOLVER.BASE_LR", "-1"]),
    ],
)
def test_command_lines(line, files, overrides):
    _, found, found_words = parse_command(line.split())
    assert (found, found_words) == (files, overrides)


def test_wrong_options():
    with pytest.raises(UserError, match="unknown option --cgf"):
        parse_command(["--cgf", "a.yaml"])
    with pytest.raises(UserError, match="--cfg: no configuration file"):
        main(["NUM_GPUS", "0"])


def test_dry_run_writes_no_checkpoint(tiny_words, tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text("NUM_GPUS: 0\n")
    assert main(["--cfg", str(file), "--dry-run", *words(tiny_words)]) == 0
    out = Path(tiny_words["OUTPUT_DIR"])
    log = (out / "stdout.log").read_text()
    for text in ("first batch: 4 3 4 32 32", "one step: loss", "first batch 1 6 3 4 32 32", "GiB"):
        assert text in log
    assert not (out / "checkpoints").exists()


def test_two_configurations_are_two_runs(tiny_words, tmp_path):
    files = []
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"OUTPUT_DIR: {tmp_path / name}\n")
        files.append(str(file))
    rest = {k: v for k, v in tiny_words.items() if k != "OUTPUT_DIR"} | {"TEST.ENABLE": False}
    main(["--cfg", *files, *words(rest | {"SOLVER.MAX_EPOCH": 1})])
    assert all((tmp_path / name / "checkpoints").is_dir() for name in ("one", "two"))


def test_learning_rate_follows_the_batch(make_cfg):
    """The linear rule: 4 videos in 2 batches, chosen for 16, halve the learning rate."""
    words = {"SOLVER.MAX_EPOCH": 1, "SOLVER.ACCUM_STEPS": 2, "TEST.ENABLE": False, "LOG_PERIOD": 1}
    plain = stats_of(run(make_cfg(words)))
    cfg = make_cfg(words | {"SOLVER.LR_BATCH_SIZE": 16, "TRAIN.AUTO_RESUME": False})
    scaled = stats_of(run(cfg))[len(plain)]  # the first line of the second run
    plain = plain[0]
    assert scaled["_type"] == plain["_type"] == "train_iter" and scaled["iter"] == plain["iter"]
    assert scaled["lr"] == pytest.approx(plain["lr"] / 2)
    log = (Path(cfg.OUTPUT_DIR) / "stdout.log").read_text()
    assert "a step sees 8 videos in 2 batches; SOLVER.LR_BATCH_SIZE makes BASE_LR 0.001" in log
    with pytest.raises(UserError, match="both this and SOLVER.BASE_LR_SCALE_NUM_SHARDS"):
        make_cfg({"SOLVER.LR_BATCH_SIZE": 8, "SOLVER.BASE_LR_SCALE_NUM_SHARDS": True})


def test_incomplete_files_of_a_killed_run_are_removed(make_cfg, tmp_path):
    cfg = make_cfg({"SOLVER.MAX_EPOCH": 1, "TRAIN.EVAL_PERIOD": 5, "TEST.ENABLE": False})
    folder = tmp_path / "out" / "checkpoints"
    folder.mkdir(parents=True)
    leftover = folder / ".checkpoint_epoch_00001.pyth.1-2.tmp"
    leftover.write_bytes(b"half")
    run(cfg)
    assert not leftover.exists() and (folder / "checkpoint_epoch_00001.pyth").exists()
