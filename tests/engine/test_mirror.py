"""OUTPUT_MIRROR: a run goes on on another machine as if it had never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from slowfast.engine.launch import launch
from slowfast.engine.mirror import OutputMirror
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils import remote
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.remote import names_below
from tests.storage import SECRET


def files(folder: Path) -> dict[str, int]:
    return {
        str(p.relative_to(folder)): p.stat().st_size
        for p in folder.rglob("*")
        if p.is_file() and p.name[0] != "."
    }


def copies(address: str) -> dict[str, int]:
    return {name: size for name, size in names_below(address).items() if name[0] != "."}


def test_another_machine_goes_on(make_cfg, storage, tmp_path):
    address = "s3://videos/runs/a"
    whole = make_cfg({"OUTPUT_DIR": str(tmp_path / "whole"), "TEST.ENABLE": False})
    launch(whole, run_job)
    part = {"OUTPUT_MIRROR": address, "OUTPUT_DIR": str(tmp_path / "first"), "TEST.ENABLE": False}
    launch(make_cfg(part), run_job)
    assert copies(address) == files(tmp_path / "first")
    # What a machine leaves that was lost in the middle.
    for name in ("checkpoints/checkpoint_epoch_00002.pyth",):
        remote.remove(f"{address}/{name}")
    shutil.rmtree(tmp_path / "first")
    storage.put("runs/a/../b.txt", b"a name that leads out of the folder")
    second = make_cfg(part | {"OUTPUT_DIR": str(tmp_path / "second"), "TEST.ENABLE": True})
    launch(second, run_job)
    log = (tmp_path / "second" / "stdout.log").read_text()
    assert "checkpoint_epoch_00001.pyth" in log and log.count("train 1/2 4/4") == 1
    assert not (tmp_path / "b.txt").exists() and SECRET not in log
    states = [
        read_checkpoint(tmp_path / name / "checkpoints/checkpoint_epoch_00002.pyth")["model_state"]
        for name in ("whole", "second")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    here = files(tmp_path / "second")
    there = {name: size for name, size in copies(address).items() if ".." not in name}
    assert there == here
    storage.requests.clear()
    OutputMirror(second).save()
    assert not [r for r in storage.requests if r[0] == "PUT"]
    (tmp_path / "second/checkpoints/checkpoint_epoch_00001.pyth").unlink()  # as pruning does
    OutputMirror(second).save()
    assert "checkpoints/checkpoint_epoch_00001.pyth" not in names_below(address)


def test_an_interrupted_restore_goes_on(make_cfg, storage, tmp_path, monkeypatch):
    checkpoint = "checkpoints/checkpoint_epoch_00001.pyth"
    for name in (checkpoint, "checkpoints/checkpoint_epoch_00002.pyth", "stats.jsonl"):
        storage.put(f"runs/b/{name}", name.encode())
    (tmp_path / "out").mkdir()
    cfg = make_cfg({"OUTPUT_MIRROR": "s3://videos/runs/b", "OUTPUT_DIR": str(tmp_path / "out")})
    fetched = []

    def download(address, target):
        fetched.append(target.name)
        if len(fetched) == 3:
            raise KeyboardInterrupt
        target.write_bytes(b"whole")

    with monkeypatch.context() as patch:
        patch.setattr(remote, "download", download)
        with pytest.raises(KeyboardInterrupt):
            OutputMirror(cfg).restore()
    assert fetched[0] == "stats.jsonl" and (tmp_path / "out" / checkpoint).exists()
    OutputMirror(cfg).restore()
    assert files(tmp_path / "out").keys() == copies("s3://videos/runs/b").keys()
    assert (tmp_path / "out" / checkpoint).read_bytes() == b"whole"
    (tmp_path / "out/stats.jsonl").unlink()
    OutputMirror(cfg).restore()  # it was complete: what a user removes stays away
    assert "stats.jsonl" not in files(tmp_path / "out")


def test_a_mirror_belongs_to_the_run_that_started_last(make_cfg, storage, tmp_path):
    def mirror(name: str) -> OutputMirror:
        words = {"OUTPUT_MIRROR": "s3://videos/runs/c", "OUTPUT_DIR": str(tmp_path / name)}
        made = OutputMirror(make_cfg(words))
        made.folder.mkdir(exist_ok=True)
        made.restore()
        (made.folder / f"{name}.txt").write_text(name)
        return made

    first = mirror("first")
    first.save()
    second = mirror("second")
    second.save(takes_over=False)
    first.save()  # the second one has not written yet
    assert "second.txt" not in names_below("s3://videos/runs/c")
    second.save()
    second.save()
    with pytest.raises(OSError, match="another run"):
        first.save()
    with pytest.raises(UserError, match="belongs to another run"):
        first.restore()
    third = mirror("third")
    third.save()
    (second.folder / "late.txt").write_text("late")
    second.save_or_warn()
    assert "late.txt" not in names_below("s3://videos/runs/c")
    assert not (third.folder / ".mirror_owner.json").exists()
    assert "third.txt" in names_below("s3://videos/runs/c")


def test_a_mirror_that_cannot_be_reached(make_cfg, storage, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(remote, "DEFAULT", remote.RetryPolicy(tries=1))
    cfg = make_cfg({"OUTPUT_MIRROR": "s3://no-such-bucket/a", "SOLVER.MAX_EPOCH": 1})
    with pytest.raises(RunFailure, match="all files are in"):
        launch(cfg, run_job)
    assert "checkpoints/checkpoint_epoch_00001.pyth" in files(Path(cfg.OUTPUT_DIR))
    assert "does not hold the last files" in (Path(cfg.OUTPUT_DIR) / "stdout.log").read_text()


@pytest.mark.parametrize(
    "words, part",
    [
        ({"OUTPUT_DIR": "s3://bucket/a"}, "OUTPUT_MIRROR, to which it is copied"),
        ({"OUTPUT_MIRROR": "/tmp/a"}, "is no address"),
        ({"OUTPUT_MIRROR": "s3://me:word@bucket/a"}, "belong in the environment"),
        ({"TRAIN.CHECKPOINT_FILE_PATH": "https://h/a?signature=word"}, "may be a signature"),
        ({"DATA.ADDRESSES": ["ftp://host/"]}, "ftp:// is none of"),
        ({"OUTPUT_MIRROR": "https://host/runs"}, "cannot be written to"),
        ({"DATA.TRAIN_LIST": "https://me:word@h/l.csv"}, "DATA.TRAIN_LIST: the address holds"),
        ({"DATA.CLASS_NAMES_PATH": "https://me:word@h/c.txt"}, "belong in the environment"),
        ({"DATA.INDEX_LABEL_MAPPING_FILE": "s3://me:word@h/c.json"}, "belong in the env"),
    ],
)
def test_addresses_are_checked_first(make_cfg, words, part):
    with pytest.raises(UserError) as error:
        make_cfg(words)
    assert part in str(error.value) and "word" not in str(error.value).replace("password", "")
