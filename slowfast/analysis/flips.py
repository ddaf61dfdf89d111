"""Damage to files of weights: what is read from a damaged file must be what was written.

A file counts as *handled* if it is refused by one clear error, or read with exactly the content
that was written (damage to bytes that mean nothing). It is *lost* if it is read with other content,
or if reading ends in anything but a clear error.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slowfast.analysis.stress.runs import Scene
from slowfast.analysis.stress.table import Tally
from slowfast.engine.checkpoint import save_checkpoint
from slowfast.models.weights.files import write_weights
from slowfast.models.weights.read import read_checkpoint
from slowfast.models.weights.safetensors import digest_of
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_BLOCK = 512  # bytes, a sector of a disk


def _flip(data: bytearray, rng: random.Random) -> None:
    position = rng.randrange(len(data))
    data[position] ^= 1 << rng.randrange(8)


def _zero(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(max(1, len(data) // _BLOCK)) * _BLOCK
    end = min(len(data), start + _BLOCK)
    data[start:end] = bytes(end - start)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randrange(1, 64))
    data[start:end] = rng.randbytes(end - start)


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


DAMAGE: dict[str, Callable[[bytearray, random.Random], None]] = {
    "flipped bit": _flip,
    "zeroed block": _zero,
    "overwritten bytes": _overwrite,
    "truncated": _truncate,
}


def example_content(seed: int = 0) -> dict[str, Any]:
    """A checkpoint with everything that one of a run has, of a tiny network."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "iteration": 128,
        "progress": {"best_top1_acc": 51.5, "best_score": 51.5},
        "inside_epoch": {},
        "recent_losses": [1.5, 1.25],
        "model_state": network.state_dict(),
        "ema_state": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "rng_state": {"ranks": [{"torch": torch.get_rng_state()}]},
        "sampler_state": {"epoch": 4, "iteration": 0, "samples": 0},
        "world": 1,
        "data": "train.csv, 16 items",
        "cfg": "MODEL:\n  MODEL_NAME: example\n",
        "class_names": ["a", "b", "c", "d"],
    }


def _write_own(path: Path) -> None:
    save_checkpoint(path, example_content())


def _write_foreign(path: Path) -> None:
    torch.save(example_content(), path)


def _write_safetensors(path: Path) -> None:
    write_weights(path, example_content()["model_state"], None, None)


def _write_torchscript(path: Path) -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # archives of others remain
        torch.jit.save(torch.jit.script(network), path)


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "checkpoint of a run": ("checkpoint_epoch_00004.pyth", _write_own),
    "archive without checksums": ("foreign.pth", _write_foreign),
    "TorchScript archive": ("script.pt", _write_torchscript),
    "stripped, safetensors": ("weights.safetensors", _write_safetensors),
}


def content_digest(content: Any) -> str:
    """SHA-256 of nested values: of their types, and of the type, shape and bytes of tensors."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(digest_of({"": value}).encode())
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)}".encode())
            for key, entry in value.items():
                add(key), add(entry)
        elif isinstance(value, (list, tuple)):
            digest.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}".encode())
            for entry in value:
                add(entry)
        else:
            digest.update(repr((type(value).__name__, value)).encode())

    add(content)
    return digest.hexdigest()


def damage_file(name: str, write: Callable[[Path], None], tries: int, seed: int) -> dict[str, Any]:
    """Damage the file that ``write`` writes ``tries`` times in each way of :data:`DAMAGE`.

    Returns counts: ``tried``, ``refused``, ``unchanged`` (read with the content that was written)
    and ``lost``, with a description of each in ``cases``.
    """
    counts: dict[str, Any] = {"tried": 0, "refused": 0, "unchanged": 0, "lost": 0, "cases": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        whole, written = path.read_bytes(), content_digest(read_checkpoint(path))
        for kind, damage in DAMAGE.items():
            rng = random.Random(f"{seed} {kind}")
            for number in range(tries):
                data = bytearray(whole)
                damage(data, rng)
                path.unlink()
                path.write_bytes(data)
                outcome = _read(path, written) if bytes(data) != whole else "unchanged"
                counts["tried"] += 1
                counts[outcome if outcome in counts else "lost"] += 1
                if outcome not in counts:
                    counts["cases"].append(f"{kind} {number}: {outcome}")
    return counts


def _read(path: Path, written: str) -> str:
    try:
        found = content_digest(read_checkpoint(path))
    except UserError:
        return "refused"
    except Exception as error:  # noqa: BLE001  (what the campaign looks for)
        return f"{type(error).__name__}: {error}"
    return "unchanged" if found == written else "read with other content"


def campaign(scene: Scene, tries: int) -> Tally:
    """:func:`damage_file` for every kind of file, all in one count."""
    tally = Tally("flips")
    for title, (name, write) in FILES.items():
        counts = damage_file(name, write, tries, scene.seed)
        logger.info("%s: %s", title, {key: counts[key] for key in counts if key != "cases"})
        tally.tried += counts["tried"]
        tally.lost += [f"{title}, {case}" for case in counts["cases"]]
    return tally
