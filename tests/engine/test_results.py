"""The folder of a test: what is in it, when it is written anew, and what never is."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.analysis.results import TestFolder, tests_of
from slowfast.config.load import load_config
from slowfast.engine import result_files, results
from slowfast.engine.launch import launch
from slowfast.engine.result_files import ScoreTable, write_recognition, write_scores
from slowfast.engine.results import base_name
from slowfast.engine.run import main, run_job
from slowfast.utils.errors import UserError
from slowfast.utils.files import file_hash
from tests.conftest import TINY, words

QUICK = TINY | {
    "TRAIN.DATASET": "moving_shapes",
    "TEST.DATASET": "moving_shapes",
    "MODEL.MODEL_NAME": "FrameAverage",
    "FRAME_AVERAGE.WIDTHS": [8, 16],
    "SOLVER.MAX_EPOCH": 1,
}


def run(out: Path, **values) -> list[TestFolder]:
    """Run with some keys (``SECTION__KEY``); gives the tests in the output folder."""
    keys = {name.replace("__", "."): value for name, value in values.items()}
    launch(load_config(overrides=words(QUICK | {"OUTPUT_DIR": str(out)} | keys)), run_job)
    return tests_of(out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shapes) -> Path:
    """A training and its test."""
    out = tmp_path_factory.mktemp("results") / "run"
    run(out, DATA__PATH_TO_DATA_DIR=shapes)
    return out


def checkpoint(trained: Path) -> str:
    return str(trained / "checkpoints" / "checkpoint_epoch_00001.pyth")


@pytest.fixture
def only_test(trained, tmp_path, shapes):
    """``only_test(KEY=value)``: tests of these weights, without training."""

    def start(**values):
        fixed = {"TRAIN__ENABLE": False, "TEST__CHECKPOINT_FILE_PATH": checkpoint(trained)}
        return run(tmp_path / "out", **({"DATA__PATH_TO_DATA_DIR": shapes} | fixed | values))

    return start


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


# -- files by hand -------------------------------------------------------------------------------


def table(activation: str = "softmax", classes: int = 3) -> ScoreTable:
    """Four videos of two views each; labels 0 0 1 2."""
    scores = torch.tensor([[1.0, 0.6, 0.4], [0.2, 1.6, 0.2], [0.4, 1.2, 0.4], [1.4, 0.4, 0.2]])
    names = ["run", "jump, high", "sit"]
    labels, views = torch.tensor([0, 0, 1, 2]), torch.tensor([2] * 4)
    paths = ["a.mp4", "b.mp4", "ü.mp4", "d.mp4"]
    if classes < 3:
        scores, labels, names = scores[:, :classes], labels.clamp_max(classes - 1), names[:classes]
    return ScoreTable(paths, labels, scores, views, names, "sum", activation)


def test_files_by_hand(tmp_path):
    write_recognition(table(), tmp_path)
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == (
        "path,label,label_name,prediction,prediction_name,probability,correct,label_probability,"
        "top2_name,top2_probability,top3_name,top3_probability"
    )
    assert lines[1] == 'a.mp4,0,run,0,run,0.50000,1,0.50000,"jump, high",0.30000,sit,0.20000'
    assert lines[4] == 'd.mp4,2,sit,0,run,0.70000,0,0.10000,"jump, high",0.20000,sit,0.10000'
    assert (tmp_path / "classes.csv").read_text().splitlines() == [
        "label,name,videos,correct,accuracy,precision,recall,f1,most_confused_with,confused",
        '0,run,2,1,50.00,50.00,50.00,50.00,"jump, high",1',
        '1,"jump, high",1,1,100.00,50.00,100.00,66.67,,0',
        "2,sit,1,0,0.00,0.00,0.00,0.00,run,1",
        "mean,,4,2,50.00,33.33,50.00,38.89,,2",
    ]
    assert (tmp_path / "confusion.csv").read_text().splitlines() == [
        'run,"jump, high",sit',
        "1,1,0",
        "0,1,0",
        "1,0,0",
    ]
    saved = np.load(tmp_path / "scores.npz", allow_pickle=False)
    assert saved["scores"].dtype == np.float32 and saved["scores"].shape == (4, 3)
    assert saved["labels"].tolist() == [0, 0, 1, 2] and saved["paths"][2] == "ü.mp4"


@pytest.mark.parametrize(
    ("activation", "column", "first"),
    [
        ("none", "probability", "0.39069"),  # e^.5 / (e^.5 + e^.3 + e^.2)
        ("sigmoid", "independent_probability", "0.50000"),
        ("own", "logit", "0.50000"),
    ],
)
def test_what_a_score_is_stands_in_the_header(activation, column, first, tmp_path):
    write_recognition(table(activation), tmp_path)
    header, row = [line.split(",") for line in (tmp_path / "predictions.csv").open()][:2]
    assert header[5] == column and header[7] == f"label_{column}" and row[5] == first


def test_there_are_never_more_places_than_classes(tmp_path):
    for classes, last in ((1, "label_probability"), (2, "top2_probability")):
        write_recognition(table(classes=classes), tmp_path)
        header = (tmp_path / "predictions.csv").read_text().splitlines()[0]
        assert header.split(",")[-1] == last


def test_scores_in_files_of_ones_own(tmp_path):
    scores, labels = torch.rand(3, 4), torch.tensor([0, 3, 1])
    for name in ("s.pkl", "s.pt", "s.npz"):
        write_scores(scores, labels, tmp_path / name)
    with open(tmp_path / "s.pkl", "rb") as file:
        predictions, truth = pickle.load(file)
    assert type(predictions) is np.ndarray and (predictions == scores.numpy()).all()
    assert truth.tolist() == [0, 3, 1]
    for read, name in ((torch.load, "s.pt"), (np.load, "s.npz")):
        saved = read(tmp_path / name)
        assert torch.equal(torch.as_tensor(saved["scores"]), scores)
        assert torch.as_tensor(saved["labels"]).tolist() == [0, 3, 1]


def test_other_suffixes_are_refused():
    with pytest.raises(UserError, match=r"SAVE_RESULTS_PATH: .*'s.json'.*\n?.*\.pkl, \.npz, \.pt"):
        load_config(overrides=words(QUICK | {"TEST.SAVE_RESULTS_PATH": "s.json"}))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("lists/k400/test.csv", ("k400-test-1x3", "test")),
        ("lists/k400/val.csv", ("k400-val-1x3", "val")),
        ("my videos/test", ("my_videos-test-1x3", "test")),
        ("ucf101", ("ucf101-test-1x3", "test")),
        ("a/Schöne Zeit/liste.txt", ("Schöne_Zeit-liste-1x3", "liste")),
        ("/data/.hidden/test.csv", ("hidden-test-1x3", "test")),
    ],
)
def test_names(source, expected):
    assert base_name(source, "1x3") == expected


# -- runs ----------------------------------------------------------------------------------------


def test_a_training_and_its_test(trained, shapes):
    (test,) = tests_of(trained)
    assert test.name == f"{shapes.name}-test-2x3"
    facts = test.facts
    assert facts["name"] == test.name and facts["task"] == "recognition"
    assert facts["list"] == str(shapes / "test.csv") and facts["fingerprint"].startswith("8 videos")
    assert facts["checkpoint"]["path"] == checkpoint(trained)
    assert facts["checkpoint"]["epoch"] == 1
    assert facts["checkpoint"]["sha256"] == file_hash(checkpoint(trained))
    assert facts["videos"] == 8 and facts["unreadable"] == facts["left_out"] == 0
    assert test.classes == ["left", "right", "up", "down"] and facts["seconds"] > 0
    assert set(test.figures) == {"top1_acc", "mean_class_accuracy"}
    assert set(files_of(test.path)) == {
        "classes.csv",
        "config.yaml",
        "confusion.csv",
        "predictions.csv",
        "scores.npz",
        "test.json",
    }
    assert test.confusion().sum() == 8 and test.class_means()["videos"] == "8"
    assert [row["name"] for row in test.class_rows()] == test.classes
    assert test.figures["mean_class_accuracy"] == float(test.class_means()["accuracy"])


def test_the_same_test_has_one_folder(trained, shapes, tmp_path):
    before = {p.name: p.read_bytes() for p in [trained / "config.yaml"]}
    (first,) = tests_of(trained)
    predictions = files_of(first.path)["predictions.csv"]
    again = run(trained, DATA__PATH_TO_DATA_DIR=shapes, TRAIN__ENABLE=False)
    # Of training, speed and place nothing follows.
    again = run(
        trained,
        DATA__PATH_TO_DATA_DIR=shapes,
        TRAIN__ENABLE=False,
        TEST__BATCH_SIZE=3,
        SOLVER__BASE_LR=0.5,
        LOG_PERIOD=1,
        TENSORBOARD__WRONG_PRED_VIS__TAG="another",
        TEST__CHECKPOINT_FILE_PATH=checkpoint(trained),
    )
    (test,) = again
    assert test.name == first.name and test.facts["started"] > first.facts["started"]
    assert files_of(test.path)["predictions.csv"] == predictions
    assert (trained / "config.yaml").read_bytes() == before["config.yaml"]
    assert "BASE_LR: 0.5" in files_of(test.path)["config.yaml"].decode()


def test_other_tests_have_others(only_test, shapes, tmp_path):
    (first,) = only_test()
    kept = files_of(first.path)
    only_test(DATA__TEST_CROP_SIZE=24)  # other pixels
    only_test(TEST__NUM_ENSEMBLE_VIEWS=1)  # other views
    only_test(DATA__TEST_LIST="val.csv")
    only_test(DATA__TEST_CROP_SIZE=24)  # the second once more
    folder, base = tmp_path / "out" / "tests", shapes.name
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{base}-test-1x3",
        f"{base}-test-2x3",
        f"{base}-test-2x3-2",
        f"{base}-val-2x3",
    ]
    assert files_of(first.path) == kept
    assert [t.name for t in tests_of(tmp_path / "out")][-1] == f"{base}-test-2x3-2"
    assert not (tmp_path / "out" / "config.yaml").exists()  # that of a training


def test_several_numbers_of_clips_are_the_tests_of_each(only_test):
    tests = only_test(TEST__NUM_TEMPORAL_CLIPS=[1, 2], TEST__SAVE_RESULTS_PATH="s.pkl")
    assert [test.facts["views"] for test in tests] == ["1x3", "2x3"]
    started = [test.facts["started"] for test in tests]
    tests = only_test(TEST__NUM_ENSEMBLE_VIEWS=2)
    assert [test.facts["started"] > old for test, old in zip(tests, started)] == [False, True]
    out = tests[0].path.parent.parent
    assert {p.name for p in out.glob("s*.pkl")} == {"s.pkl", "s_1x3.pkl", "s_2x3.pkl"}


def test_folders_of_others_are_left_alone(only_test, shapes, tmp_path):
    mine = tmp_path / "out" / "tests" / f"{shapes.name}-test-2x3"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    (test,) = only_test()
    assert test.name == f"{shapes.name}-test-2x3-2" and files_of(mine) == {"notes.txt": b"mine"}


def _killed_while_writing(values: dict, when: str) -> None:
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    if when == "file":
        result_files.np.savez = die
    else:
        rename = os.rename

        def rename_and_die(source, target):
            rename(source, target)
            if str(target).endswith(".old"):  # between the two renames
                die()

        os.rename = rename_and_die
    run(**values)


@pytest.mark.parametrize("when", ["file", "rename"])
def test_a_kill_leaves_the_earlier_folder(when, trained, only_test, shapes, tmp_path):
    (test,) = only_test()
    before = files_of(test.path)
    values = {
        "out": tmp_path / "out",
        "DATA__PATH_TO_DATA_DIR": shapes,
        "TRAIN__ENABLE": False,
        "TEST__CHECKPOINT_FILE_PATH": checkpoint(trained),
    }
    process = multiprocessing.get_context("fork").Process(
        target=_killed_while_writing, args=(values, when)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if when == "file":
        assert files_of(test.path) == before
    else:  # hidden, until the next test
        assert not test.path.exists()
        (again,) = only_test(DATA__TEST_LIST="val.csv", TEST__NUM_ENSEMBLE_VIEWS=2)[:1]
        assert again.path == test.path and files_of(test.path) == before
    (again, *_) = only_test()
    assert again.facts["started"] > test.facts["started"]
    assert not [p.name for p in test.path.parent.iterdir() if p.name.startswith(".")]


# -- classes by name -----------------------------------------------------------------------------


def write_list(folder: Path, shapes: Path, names: list[str]) -> dict:
    """A list of the shapes' test videos whose labels are positions in ``names``; those of other
    classes are not in it."""
    folder.mkdir()
    rows = [line.split() for line in (shapes / "test.csv").read_text().splitlines()]
    named = [(path, Path(path).name.split("_")[0]) for path, _ in rows]
    lines = [f"{shapes}/{path} {names.index(name)}\n" for path, name in named if name in names]
    (folder / "test.csv").write_text("".join(lines))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    return {"DATA__PATH_TO_DATA_DIR": folder, "TEST__DATASET": "kinetics"}


def rows_by_path(test: TestFolder) -> dict[str, dict]:
    return {Path(row.pop("path")).name: row for row in test.predictions()}


def test_a_shuffled_list_gives_the_same_predictions(only_test, shapes, tmp_path):
    (plain,) = only_test(TEST__DATASET="kinetics", DATA__PATH_PREFIX=shapes)
    shuffled = write_list(tmp_path / "shuffled", shapes, ["down", "up", "left", "right"])
    test = only_test(**shuffled)[-1]
    assert rows_by_path(test) == rows_by_path(plain) and test.classes == plain.classes
    assert torch.equal(test.scores().scores, plain.scores().scores)


@pytest.mark.parametrize("configured", [4, 2])
def test_a_part_of_the_classes(configured, only_test, shapes, tmp_path):
    (plain,) = only_test()
    part = write_list(tmp_path / "part", shapes, ["up", "left"])
    test = only_test(**part, MODEL__NUM_CLASSES=configured)[-1]
    whole = rows_by_path(plain)
    assert rows_by_path(test) == {
        name: row for name, row in whole.items() if name.startswith(("up", "left"))
    }
    assert test.config()["MODEL.NUM_CLASSES"] == 4 and test.classes == plain.classes
    assert [row["videos"] for row in test.class_rows()] == ["2", "0", "2", "0"]


def test_classes_that_the_weights_do_not_know(only_test, shapes, tmp_path):
    more = write_list(tmp_path / "more", shapes, ["left", "up", "right", "down"])
    (tmp_path / "more" / "classes.txt").write_text("left\nup\nright\nsideways\n")
    with pytest.raises(UserError, match="2 of 8 videos .* do not know: 'sideways'"):
        only_test(**more)
    test = only_test(**more, DATA__CLASS_ORDER="known")[-1]
    assert test.facts["left_out"] == 2 and test.facts["videos"] == 6
    assert len(test.predictions()) == 6


def test_names_come_from_the_weights(only_test, shapes, tmp_path):
    bare = write_list(tmp_path / "bare", shapes, ["left", "right", "up", "down"])
    (tmp_path / "bare" / "classes.txt").unlink()
    test = only_test(**bare)[-1]
    assert test.classes == ["left", "right", "up", "down"]
    assert {row["prediction_name"] for row in test.predictions()} <= set(test.classes)


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("further", [[], ["--dry-run"]])
def test_a_run_with_nothing_to_do_is_said(further, tmp_path):
    off = words(QUICK | {"TRAIN.ENABLE": False, "TEST.ENABLE": False, "OUTPUT_DIR": tmp_path / "o"})
    config = tmp_path / "c.yaml"
    config.write_text("NUM_GPUS: 0\n")
    with pytest.raises(UserError, match="there is nothing to do"):
        main(["--cfg", str(config), *further, *off])
    assert not (tmp_path / "o").exists()


def test_a_refused_run_leaves_the_configuration(trained, shapes):
    before = (trained / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="SOLVER.BASE_LR"):
        run(trained, DATA__PATH_TO_DATA_DIR=shapes, SOLVER__BASE_LR=0.7)
    assert (trained / "config.yaml").read_bytes() == before
    assert results.FOLDER == "tests"
