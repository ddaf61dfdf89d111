"""Lists, videos and weights at addresses: runs like those of the same files here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slowfast.datasets.base import SampleKey
from slowfast.datasets.build import build_dataset
from slowfast.datasets.lists import read_named_lists
from slowfast.datasets.loader import construct_loader
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from tests.storage import SECRET, unavailable

KINETICS = {"TRAIN.DATASET": "kinetics", "TEST.DATASET": "kinetics", "DATA.SAMPLING": "segment"}
SEVERAL = {"DATA.MULTI_LABEL": True, "MODEL.LOSS_FUNC": "bce_logit", "MODEL.HEAD_ACT": "sigmoid"}


@pytest.fixture
def uploaded(storage, shapes):
    """The address of the moving_shapes set."""
    address = storage.put_folder(shapes)
    storage.requests.clear()
    return address


def run(cfg) -> Path:
    launch(cfg, run_job)
    return Path(cfg.OUTPUT_DIR)


def figures(out: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    return [(r["_type"], r.get("loss"), r.get("top1_err"), r.get("bad_items")) for r in rows]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_the_same_wherever_its_files_are(
    make_cfg, storage, shapes, uploaded, tmp_path, workers
):
    common = KINETICS | {"DATA_LOADER.NUM_WORKERS": workers}
    here = common | {
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "DATA.PATH_PREFIX": str(shapes),
        "OUTPUT_DIR": str(tmp_path / "here"),
    }
    there = common | {
        "DATA.PATH_TO_DATA_DIR": uploaded,
        "DATA.PATH_PREFIX": uploaded,
        "OUTPUT_DIR": str(tmp_path / "there"),
    }
    first = run(make_cfg(here))
    storage.faults[:] = [None] * 70 + [unavailable] * 2
    second = run(make_cfg(there))
    assert figures(first) == figures(second)
    assert SECRET not in "".join(p.read_text() for p in second.glob("*.*") if p.suffix != ".pyth")
    name = "checkpoints/checkpoint_epoch_00002.pyth"
    states = [read_checkpoint(out / name)["model_state"] for out in (first, second)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    # The weights of the first run, from the storage.
    weights = storage.put("run/best.pyth", first / name)
    extra = {"TRAIN.ENABLE": False, "TEST.CHECKPOINT_FILE_PATH": weights}
    third = run(make_cfg(here | extra | {"OUTPUT_DIR": str(tmp_path / "test")}))
    assert figures(third)[-1] == figures(first)[-1]


def test_videos_that_are_missing_or_out_of_reach_are_named(
    make_cfg, storage, shapes, uploaded, tmp_path
):
    lines = (shapes / "train.csv").read_text().splitlines()
    lines[3] = f"videos/absent.mp4 {lines[3].split()[-1]}"
    storage.put(f"{shapes.name}/train.csv", "\n".join(lines).encode())
    broken = lines[5].split()[0]
    app = storage.app

    def failing(environ, start_response):
        if environ["PATH_INFO"].endswith(broken) and environ["REQUEST_METHOD"] == "GET":
            return unavailable(app, environ, start_response)
        return app(environ, start_response)

    storage.app = failing
    try:
        extra = {"DATA.MAX_ERROR_SHARE": 0.5, "DATA.FETCH_TIMEOUT": 1.0, "SOLVER.MAX_EPOCH": 1}
        places = {"DATA.PATH_TO_DATA_DIR": uploaded, "DATA.PATH_PREFIX": uploaded}
        out = run(make_cfg(KINETICS | places | extra | {"TEST.ENABLE": False}))
    finally:
        storage.app = app
    rows = [line.split("\t") for line in (out / "bad_items.tsv").read_text().splitlines()]
    causes = {int(line): (source, path, cause) for source, line, path, cause in rows}
    assert causes[4] == (
        f"{uploaded}/train.csv",
        f"{uploaded}/videos/absent.mp4",
        "there is no such file",
    )
    assert causes[6][1] == f"{uploaded}/{broken}"
    assert causes[6][2].startswith("cannot be fetched: ") and " tries in " in causes[6][2]
    assert len(causes) == 2


@pytest.mark.parametrize(
    "line, permitted, part",
    [
        ("/etc/passwd 0", [], "is a file of this machine"),
        ("../other/a.mp4 0", [], "leads to a folder above"),
        ("file:///etc/passwd 0", [], "file:// is none of"),
        ("s3://elsewhere/a.mp4 0", [], "not below DATA.PATH_PREFIX or DATA.ADDRESSES"),
        ("https://169.254.169.254/latest/meta-data 0", ["s3://elsewhere"], "not below"),
        ("https://me:word@host/a.mp4 0", ["https://host"], "belong in the environment"),
        ("https://host/a.mp4?X-Amz-Signature=word 0", ["https://host"], "may be a signature"),
        ("s3://elsewhere/a.mp4 0", ["s3://elsewhere"], ""),
    ],
)
def test_a_list_leads_only_where_the_configuration_says(
    make_cfg, storage, tmp_path, line, permitted, part, caplog
):
    (tmp_path / "train.csv").write_text(f"{line}\n")
    cfg = make_cfg(
        KINETICS
        | {"DATA.PATH_TO_DATA_DIR": str(tmp_path), "DATA.ADDRESSES": permitted}
        | {"DATA.PATH_PREFIX": "s3://videos/set"}
    )
    with pytest.raises(UserError) as error:
        build_dataset(cfg, "train")
    text = str(error.value)
    assert part in text if part else "none of 1 sampled videos" in text
    assert "word@" not in text and "=word" not in text
    assert not part or not storage.requests  # nothing was asked for
    with pytest.raises(UserError):
        read_named_lists([str(tmp_path / "train.csv")], "s3://videos/set")


def test_addresses_in_a_list_without_a_prefix(make_cfg, storage, shapes, uploaded, tmp_path):
    lines = (shapes / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("".join(f"{uploaded}/{line}\n" for line in lines))
    words = KINETICS | {"DATA.PATH_TO_DATA_DIR": str(tmp_path)}
    with pytest.raises(UserError, match="DATA.ADDRESSES"):
        build_dataset(make_cfg(words), "train")
    there = build_dataset(make_cfg(words | {"DATA.ADDRESSES": ["s3://videos"]}), "train")
    here = build_dataset(make_cfg(), "train")
    key = SampleKey(0, 3)
    assert torch.equal(there[key]["video"], here[key]["video"])
    assert there.item_list.fingerprint == here.item_list.fingerprint


def test_a_storage_that_cannot_be_reached_is_named(make_cfg, storage, shapes, monkeypatch):
    monkeypatch.setattr("slowfast.utils.remote.DEFAULT.__class__.tries", 2, raising=False)
    monkeypatch.setattr("slowfast.datasets.checks.exists", _unreachable)
    words = {"DATA.PATH_TO_DATA_DIR": str(shapes), "DATA.PATH_PREFIX": "s3://videos/set"}
    with pytest.raises(UserError, match="check the address, the network and the credentials"):
        build_dataset(make_cfg(KINETICS | words), "train")


def _unreachable(path):
    from slowfast.utils.remote import RemoteError

    raise RemoteError(path, "cannot be fetched: no route to host (6 tries in 9 seconds)")


def test_sets_without_lists_say_that_they_need_a_folder(make_cfg, storage, uploaded):
    for name in ("ucf101", "folder", "jester", "charades"):
        extra = SEVERAL if name == "charades" else {}
        cfg = make_cfg({"TRAIN.DATASET": name, "DATA.PATH_TO_DATA_DIR": uploaded} | extra)
        with pytest.raises(UserError, match="a folder of this machine"):
            build_dataset(cfg, "train")


def test_few_shot_clips_are_found_by_a_listing(storage, compositions):
    from slowfast.datasets.fewshot_lists import ClipFinder, RemoteClipFinder, read_clip_list

    address = storage.put_folder(compositions)
    storage.requests.clear()
    here, there = ClipFinder(compositions / "videos"), RemoteClipFinder(f"{address}/videos")
    clips = read_clip_list(compositions / "test.txt")
    for clip in clips:
        found = here.find(clip.class_name, clip.video)
        name = str(Path(found).relative_to(compositions))
        assert there.find(clip.class_name, clip.video) == f"{address}/{name}"
    assert there.find("no", "such") is None
    assert len(storage.requests) == 1


def test_batches_do_not_depend_on_the_number_of_workers(make_cfg, storage, shapes, uploaded):
    places = {"DATA.PATH_TO_DATA_DIR": uploaded, "DATA.PATH_PREFIX": uploaded}

    def batches(workers):
        words = KINETICS | places | {"DATA_LOADER.NUM_WORKERS": workers}
        return [(b.video, b.path) for b in construct_loader(make_cfg(words), "train")]

    for (one, paths), (other, others) in zip(batches(0), batches(3)):
        assert torch.equal(one, other) and paths == others
