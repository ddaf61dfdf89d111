"""Speed of answers: from a video to its classes, against reading it and the network alone."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from slowfast.analysis.speed.data import make_clip
from slowfast.analysis.speed.floor import DecodeFloor
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.node import CfgNode
from slowfast.engine.network import build_network
from slowfast.inference.predictor import Predictor, load
from slowfast.models.weights.write import write_archive
from slowfast.utils.runtime import cpu_count

_WINDOW_S = 2.0


def benchmark_predict(
    cfg: CfgNode, videos: Sequence[str], rounds: int, batch: int, command: Sequence[str]
) -> dict[str, Any]:
    """Seconds from a video to its answer by the network of ``cfg`` with random weights, and ratios.

    ``videos``: files; without any a generated clip of 10 s, 340x256. ``cold``: in a new process;
    ``warm``: in this one; ``folder``: ``batch`` videos, against decoding their frames as cheaply as
    possible (``floor``) and against the network alone, whose sum is the least that is possible
    without several cores; ``times_real_time``: of sliding windows. ``command``: words after the
    interpreter that start `slowfast predict`.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_untrained(cfg, Path(folder) / "untrained.pyth")
        paths = list(videos)
        if not paths:
            paths = [str(Path(folder) / "clip.mp4")]
            make_clip(Path(paths[0]), 256, 340)
        device = "cuda" if cfg.NUM_GPUS else "cpu"
        words = [*command, checkpoint, paths[0], "--device", device]
        cold = sorted(_seconds_of(words) for _ in range(min(rounds, 3)))
        start = time.perf_counter()
        predictor = load(checkpoint, device)
        loading = time.perf_counter() - start
        result = {
            "cores": cpu_count(),
            "views": predictor.preprocess(paths[0]).shape[0],
            "cold_s": round(cold[len(cold) // 2][0], 2),
            "cold_cpu_s": round(cold[len(cold) // 2][1], 2),
            "load_s": round(loading, 2),
        }
        return result | _answers(predictor, paths, rounds, batch) | _windows(predictor, paths[0])


def write_untrained(cfg: CfgNode, path: Path) -> Path:
    """A checkpoint of the network with random weights."""
    torch.manual_seed(cfg.RNG_SEED)
    names = [f"class {number}" for number in range(cfg.MODEL.NUM_CLASSES)]
    content = {
        "model_state": build_network(cfg).state_dict(),
        "sampler_state": {},
        "cfg": cfg.dump(),
        "class_names": names,
    }
    write_archive(content, str(path))
    return path


def _seconds_of(words: Sequence[str | Path]) -> tuple[float, float]:
    """(seconds, seconds of computing, which do not depend on what else runs) of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _answers(predictor: Predictor, paths: Sequence[str], rounds: int, batch: int) -> dict[str, Any]:
    reader = predictor.reader
    floors = {path: DecodeFloor(path) for path in paths}
    wanted = {
        path: sorted(
            {int(i) for indices in reader.evaluated_indices(len(f.pts), f.fps) for i in indices}
        )
        for path, f in floors.items()
    }
    listed = [paths[number % len(paths)] for number in range(batch)]
    views = predictor.preprocess(paths[0])

    def network(_: int) -> None:
        with torch.inference_mode():
            for _ in listed:
                predictor.model(views)

    warm, folder, floor, alone = alternate(
        [
            lambda _: predictor.predict(paths[0]),
            lambda _: list(predictor.stream(listed)),
            lambda _: [floors[path](wanted[path]) for path in listed],
            network,
        ],
        rounds,
    )
    computed = time.process_time()
    predictor.predict(paths[0])
    computed = time.process_time() - computed
    least = [one + other for one, other in zip(floor, alone)]
    return {
        "warm_ms": median_ms(warm),
        "warm_cpu_ms": round(1000 * computed, 1),
        "folder_videos_per_second": round(batch * len(folder) / sum(folder), 2),
        "floor_videos_per_second": round(batch * len(floor) / sum(floor), 2),
        "folder_to_floor": ratio(folder, floor),
        "folder_to_floor_and_network": ratio(folder, least),
    }


def _windows(predictor: Predictor, path: str) -> dict[str, Any]:
    start, computed = time.perf_counter(), time.process_time()
    answers = list(predictor.windows(path, _WINDOW_S))
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    _, end = answers[-1].span
    return {
        "windows": len(answers),
        "times_real_time": round(end / seconds, 2),
        "times_real_time_by_cpu_seconds": round(end / computed, 2),
    }
