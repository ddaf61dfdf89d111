"""Speed of embeddings: making them beside plain answers, and searching in many of them."""

from __future__ import annotations

import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from slowfast.analysis.speed.data import make_clip
from slowfast.analysis.speed.predict import write_untrained
from slowfast.analysis.speed.timing import alternate, ratio
from slowfast.config.node import CfgNode
from slowfast.inference.embeddings.facts import Facts
from slowfast.inference.embeddings.parquet import Row, write_file
from slowfast.inference.embeddings.space import ENDING, ENGINES, Space
from slowfast.inference.embeddings.work import Embed, Plan
from slowfast.inference.network import Network
from slowfast.utils.runtime import cpu_count

_WINDOW_S = 2.0
_FILES = 8


def benchmark_embed(
    cfg: CfgNode,
    videos: Sequence[str],
    rounds: int,
    batch: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Windows a second (of ``clock``) of ``batch`` videos: answers alone, and answers with vectors
    in a Parquet file, by the network of ``cfg`` with random weights; alternately, in this process.

    ``videos``: files; without any a generated clip of 10 s, 340x256.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_untrained(cfg, folder / "untrained.pyth")
        paths = list(videos)
        if not paths:
            paths = [str(folder / "clip.mp4")]
            make_clip(Path(paths[0]), 256, 340)
        listed = [paths[number % len(paths)] for number in range(batch)]
        plan = Plan(listed, folder, _WINDOW_S, 0.0, batch)
        (folder / "videos.txt").write_text("".join(f"{path}\n" for path in listed))
        network = Network(str(checkpoint), "cuda" if cfg.NUM_GPUS else "cpu")
        work = Embed(network, folder, _WINDOW_S, 0.0, batch)
        windows = next(work.results(plan.parts))["windows"]

        def answers(_: int) -> None:
            for _ in work.predictor.stream_windows(listed, _WINDOW_S, top=1):
                pass

        plain, embedded = alternate(
            [answers, lambda _: list(work.results(plan.parts))], rounds, clock=clock
        )
        return {
            "cores": cpu_count(),
            "windows": windows,
            "dimension": work.facts.dimension,
            "predict_windows_per_second": round(windows * rounds / sum(plain), 2),
            "embed_windows_per_second": round(windows * rounds / sum(embedded), 2),
            "embed_to_predict": ratio(embedded, plain),
        }


def benchmark_search(rows: int, dimension: int, rounds: int, top: int = 20) -> dict[str, Any]:
    """Seconds of a search among ``rows`` random vectors ``dimension`` long, by each engine, and the
    memory that it adds to the process; whether the engines agree."""
    torch.set_num_threads(1)
    facts = Facts("random", "", "", {}, dimension, [], "probability")
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        for number in range(_FILES):
            count = len(range(number, rows, _FILES))
            write_file(Path(name, f"part-{number:05d}{ENDING}"), facts, _rows(count, number, facts))
        result: dict[str, Any] = {
            "vectors": rows,
            "dimension": dimension,
            "cores": cpu_count(),
            "megabytes": round(sum(f.stat().st_size for f in Path(name).iterdir()) / 2**20, 1),
            "write_s": round(time.perf_counter() - start, 1),
        }
        query = torch.randn(dimension, generator=torch.Generator().manual_seed(1))
        found = []
        for engine in ENGINES[1:]:
            before, seconds, computed = _peak_megabytes(), [], []
            for _ in range(rounds):
                start, cpu = time.perf_counter(), time.process_time()
                places = Space([name]).nearest(query, top, engine)
                seconds.append(time.perf_counter() - start)
                computed.append(time.process_time() - cpu)
            found.append(places)
            result |= {
                f"{engine}_s": round(median(seconds), 2),
                f"{engine}_cpu_s": round(median(computed), 2),
                f"{engine}_megabytes_more": round(_peak_megabytes() - before, 1),
            }
        return result | {"engines_agree": found[0] == found[1]}


def _rows(count: int, seed: int, facts: Facts) -> Iterator[Row]:
    """Random directions, a few thousand at a time."""
    rng = np.random.default_rng(seed)
    for first in range(0, count, 4096):
        values = rng.standard_normal((min(4096, count - first), facts.dimension), np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        for number, vector in enumerate(values, first):
            time_s = math.floor(number / 5) * 2.0
            yield Row(f"{seed}/{number}.mp4", time_s, time_s + 2, vector, 1.0, np.empty(0))


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
