"""Speed of reading samples relative to the decoding floor, in one process with one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from slowfast.analysis.speed.floor import DecodeFloor
from slowfast.analysis.speed.timing import alternate, median_ms, ratio
from slowfast.config.load import load_config
from slowfast.datasets.base import SampleKey, VideoDataset
from slowfast.datasets.build import build_dataset
from slowfast.utils.seeding import sample_rng
from slowfast.video.backends.frames import FIRST_FRAME
from slowfast.video.extract import extract_frames
from slowfast.video.writer import write_mp4

RECIPE = {
    "TRAIN.DATASET": "kinetics",
    "TEST.DATASET": "kinetics",
    "DATA.NUM_FRAMES": 16,
    "DATA.SAMPLING_RATE": 4,
    "DATA.FRAME_RATE": "native",
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.08, 1.0],
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": [0.75, 1.3333],
    "DATA.TRAIN_CROP_SIZE": 224,
    "DATA.TEST_CROP_SIZE": 224,
    "DATA.ON_ERROR": "raise",
    "DATA.USE_OFFSET_SAMPLING": True,
    "TEST.NUM_ENSEMBLE_VIEWS": 4,
    "TEST.NUM_SPATIAL_CROPS": 3,
}
_RANDAUGMENT = {"AUG.ENABLE": True, "AUG.NUM_SAMPLE": 2, "AUG.AA_TYPE": "rand-m7-n4-mstd0.5-inc1"}

# Jester and Something-Something as stmodeling reads them.
_TSN = {
    "DATA.NUM_FRAMES": 8,
    "DATA.SAMPLING": "tsn",
    "DATA.RANDOM_FLIP": False,
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [],
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": [],
    "DATA.TRAIN_MULTI_SCALE_CROP": [1.0, 0.875, 0.75, 0.66],
}


def make_clip(path: Path, height: int, width: int, seconds: int = 10, fps: int = 25) -> None:
    """Write a textured moving scene as H.264 with the encoder's default keyframe interval."""
    rng = sample_rng(0, 0, 0, "benchmark clip")
    margin = 64
    size = (height + 2 * margin, width + 2 * margin, 3)
    scene = np.zeros(size, np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        layer = rng.normal(size=(cells * height // width + 1, cells, 3)).astype(np.float32)
        scene += cv2.resize(layer, size[1::-1], interpolation=cv2.INTER_CUBIC) * 60 / cells**0.4
    scene = np.clip(scene + 128, 0, 255).astype(np.uint8)
    # Camera shake, several moving objects and sensor noise: about the file size of a real video
    # of this quality.
    objects = rng.uniform(0.2, 1.0, size=(6, 4))
    frames = np.empty((seconds * fps, height, width, 3), np.uint8)
    for t, frame in enumerate(frames):
        shake = rng.normal(0, 0.7, size=2)
        x, y = (margin * (1 + np.sin(t / speed)) + s for speed, s in zip((23.0, 31.0), shake))
        view = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y]])
        cv2.warpAffine(scene, view, (width, height), dst=frame)
        for speed, phase, size_share, colour in objects:
            centre = (
                int(width * (0.5 + 0.45 * np.sin(t * speed / 9 + 7 * phase))),
                int(height * (0.5 + 0.4 * np.cos(t * speed / 7 + 9 * colour))),
            )
            shade = (int(250 * colour), int(250 * phase), int(250 * size_share))
            cv2.circle(frame, centre, int(height * size_share / 8), shade, -1)
        noise = rng.integers(-5, 6, size=(height // 2, width // 2, 1), dtype=np.int16)
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
        frame[:] = np.clip(frame.astype(np.int16) + noise, 0, 255)
    write_mp4(path, frames, fps, crf=23, gop=250, preset="medium")


def _dataset(video: Path, split: str, extra: dict[str, Any], counted: str = "") -> VideoDataset:
    folder = video.parent
    for name in ("train", "val", "test"):
        (folder / f"{name}.csv").write_text(f"{video.name} {counted}0\n")
    words = {"DATA.PATH_TO_DATA_DIR": str(folder), "DATA.PATH_PREFIX": str(folder)}
    pairs = (RECIPE | extra | words).items()
    cfg = load_config(overrides=[word for key, value in pairs for word in (key, str(value))])
    return build_dataset(cfg, split)


def _compare(
    dataset: VideoDataset,
    floor: Callable[[list[int]], Any],
    indices: Callable[[int], list[int]],
    rounds: int,
) -> dict[str, float]:
    ours, best = alternate(
        [lambda n: dataset[SampleKey(n, 0)], lambda n: floor(indices(n))], rounds
    )
    return {"ms": median_ms(ours), "floor_ms": median_ms(best), "ratio": ratio(ours, best)}


def benchmark_file(video: Path, rounds: int) -> dict[str, Any]:
    """Time relative to the floor: a training sample, the same with RandAugment and two augmented
    copies, and a test video with 4 x 3 views."""
    floor = DecodeFloor(str(video))
    frames = len(floor.pts)

    def training_indices(dataset: VideoDataset) -> Callable[[int], list[int]]:
        # The frames that the sample of an epoch reads.
        def indices(epoch: int) -> list[int]:
            rng = sample_rng(dataset.seed, epoch, 0)
            return dataset.reader.sampler.train_indices(frames, floor.fps, rng).tolist()

        return indices

    results: dict[str, Any] = {"frames": frames, "megabytes": video.stat().st_size / 1e6}
    for name, extra in (("train", {}), ("train_randaugment_x2", _RANDAUGMENT)):
        dataset = _dataset(video, "train", extra)
        results[name] = _compare(dataset, floor, training_indices(dataset), rounds)
    dataset = _dataset(video, "test", {})
    views = dataset.reader.sampler.test_indices(frames, floor.fps, dataset.reader.views.clips)
    test_indices = sorted({int(i) for view in views for i in view})
    results["test_4x3"] = _compare(dataset, floor, lambda n: test_indices, max(rounds // 3, 3))
    return results


def benchmark_folder(folder: Path, rounds: int) -> dict[str, Any]:
    """Time relative to decoding the same images: reading them (``read``), and a whole TSN training
    sample with crop and resize (``train_tsn``); the list contains the number of frames."""
    frames = len(list(folder.glob("*.jpg")))
    dataset = _dataset(folder, "train", _TSN, f"{frames} ")
    item = dataset.items[0]
    names = [
        str(folder / dataset.reader.data.IMAGE_TEMPLATE.format(n + FIRST_FRAME))
        for n in range(frames)
    ]

    def floor(numbers: list[int]) -> list[np.ndarray]:
        return [cv2.imread(names[number], cv2.IMREAD_COLOR) for number in numbers]

    def indices(epoch: int) -> list[int]:
        rng = sample_rng(dataset.seed, epoch, 0)
        return dataset.reader.sampler.train_indices(frames, 30.0, rng).tolist()

    reading, best = alternate(
        [lambda n: dataset.reader.open(item).clips([indices(n)]), lambda n: floor(indices(n))],
        rounds,
    )
    read = {"ms": median_ms(reading), "floor_ms": median_ms(best), "ratio": ratio(reading, best)}
    return {"frames": frames, "read": read, "train_tsn": _compare(dataset, floor, indices, rounds)}


def benchmark_data(videos: list[str], rounds: int) -> dict[str, Any]:
    """:func:`benchmark_file` for each of ``videos`` (:func:`benchmark_folder` for frame folders);
    without any, both for a generated 340x256 and a generated 1920x1080 clip."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results: dict[str, Any] = {"rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        if not videos:
            for name, height, width in (("340x256", 256, 340), ("1920x1080", 1080, 1920)):
                path = Path(folder) / name / "clip.mp4"
                path.parent.mkdir()
                make_clip(path, height, width)
                results[name] = benchmark_file(
                    path, rounds if height < 720 else max(rounds // 4, 4)
                )
                frames = Path(folder) / f"{name} frames" / "clip"
                extract_frames(str(path), str(frames))
                results[f"{name} as images"] = benchmark_folder(frames, rounds)
        for number, video in enumerate(videos):
            # A link, so that the lists are written beside it and not beside the video.
            link = Path(folder) / str(number) / Path(video).name
            link.parent.mkdir()
            link.symlink_to(Path(video).resolve())
            measure = benchmark_folder if link.is_dir() else benchmark_file
            results[video] = measure(link, rounds)
    return results
