"""Checkpoints: what is in them, how they are written, which one is found."""

from __future__ import annotations

import pytest
import torch

from slowfast.engine import checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.files import write_atomic


def content(epoch):
    return {"epoch": epoch, "model_state": {"w": torch.full((100,), float(epoch))}}


def test_newest_valid_one_is_found(tmp_path, caplog):
    for epoch in (1, 2, 3):
        path = checkpoint.checkpoint_path(tmp_path, epoch)
        checkpoint.save_checkpoint(path, content(epoch))
    (path.parent / "checkpoint_epoch_00009.pyth.tmp").write_bytes(b"x")
    (path.parent / "ssl_checkpoint_epoch_00010.pyth").write_bytes(b"x")
    assert checkpoint.read_newest(tmp_path).content["epoch"] == 3
    path.write_bytes(path.read_bytes()[:300])  # cut off
    newest = checkpoint.read_newest(tmp_path)
    assert newest.content["epoch"] == 2 and newest.path.name == "checkpoint_epoch_00002.pyth"
    torch.save({"something": torch.zeros(1)}, path)  # a foreign file under our name
    assert checkpoint.read_newest(tmp_path).content["epoch"] == 2
    assert checkpoint.read_newest(tmp_path / "nowhere") is None


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = checkpoint.checkpoint_path(tmp_path, 1)
    checkpoint.save_checkpoint(path, content(1))

    def fails(temporary):
        with open(temporary, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_atomic(path, fails)
    assert checkpoint.read_newest(tmp_path).content["epoch"] == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_unwritable_folder(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="OUTPUT_DIR"):
        checkpoint.save_checkpoint(checkpoint.checkpoint_path(tmp_path, 1), content(1))


def test_only_the_newest_are_kept(tmp_path):
    for epoch in range(1, 6):
        checkpoint.save_checkpoint(checkpoint.checkpoint_path(tmp_path, epoch), content(epoch))
    checkpoint.prune_checkpoints(tmp_path, 2)
    assert [p.stem[-1] for p in checkpoint.run_checkpoints(tmp_path)] == ["5", "4"]
    checkpoint.prune_checkpoints(tmp_path, 0)
    assert len(checkpoint.run_checkpoints(tmp_path)) == 2


def test_best_is_tested_when_asked(tmp_path):
    checkpoint.save_checkpoint(checkpoint.checkpoint_path(tmp_path, 4), content(4))
    assert checkpoint.find_tested(tmp_path, "best").path.name == "checkpoint_epoch_00004.pyth"
    best = checkpoint.checkpoint_folder(tmp_path) / checkpoint.BEST
    checkpoint.save_checkpoint(best, content(2))
    assert checkpoint.find_tested(tmp_path, "best").path == best
    assert checkpoint.find_tested(tmp_path, "last").path.name == "checkpoint_epoch_00004.pyth"
