"""Frame samplers by name (``DATA.SAMPLING``): which frames of a video make a clip.

A sampler is built from the section DATA and gives 0-based frame indices. A rule of another project
is a subclass registered in a module that IMPORTS names::

    @FRAME_SAMPLER_REGISTRY.register("first_frames")
    class FirstFrames(FrameSampler):
        def val_indices(self, num_frames, fps):
            return np.minimum(np.arange(self.clip_length), num_frames - 1)
"""

from __future__ import annotations

import numpy as np

from slowfast.config.node import CfgNode
from slowfast.utils.registry import Registry
from slowfast.video import sampling

FRAME_SAMPLER_REGISTRY: Registry[type[FrameSampler]] = Registry("frame sampler", "DATA.SAMPLING")


def build_sampler(cfg: CfgNode, default: str) -> FrameSampler:
    """The sampler that DATA.SAMPLING names; ``default`` is the rule of the data set's loader."""
    name = default if cfg.DATA.SAMPLING == "auto" else cfg.DATA.SAMPLING
    return FRAME_SAMPLER_REGISTRY.get(name).from_cfg(cfg)


class FrameSampler:
    """A rule that chooses ``clip_length`` frames of a video.

    Every method takes the video's number of frames and its frame rate. A subclass states
    ``val_indices``, and the others where training or the views of a test differ from it.
    """

    def __init__(self, clip_length: int):
        self.clip_length = clip_length

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> FrameSampler:
        """The sampler with the options of the section DATA."""
        return cls(cfg.DATA.NUM_FRAMES)

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Indices of a random training clip."""
        return self.val_indices(num_frames, fps)

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """Indices of the one validation clip."""
        raise NotImplementedError

    def test_indices(self, num_frames: int, fps: float, num_views: int) -> list[np.ndarray]:
        """Indices of each of ``num_views`` test clips."""
        return [self.val_indices(num_frames, fps)] * num_views


@FRAME_SAMPLER_REGISTRY.register("clip")
class ClipSampler(FrameSampler):
    """PySlowFast's Kinetics loader: consecutive frames at a rate; test clips over the video."""

    def __init__(self, shape: sampling.ClipShape, use_offset: bool = False):
        super().__init__(shape.num_frames)
        self.shape, self.use_offset = shape, use_offset

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> ClipSampler:
        """See :meth:`FrameSampler.from_cfg`."""
        data = cfg.DATA
        native = data.FRAME_RATE == "native" or (
            data.FRAME_RATE == "auto" and data.DECODING_BACKEND == "decord"
        )
        target_fps = None if native else float(data.TARGET_FPS)
        shape = sampling.ClipShape(data.NUM_FRAMES, data.SAMPLING_RATE, target_fps)
        return cls(shape, data.USE_OFFSET_SAMPLING)

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`FrameSampler.train_indices`."""
        return sampling.kinetics_random_clip(num_frames, fps, self.shape, rng)

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """See :meth:`FrameSampler.val_indices`."""
        return sampling.kinetics_clip(num_frames, fps, self.shape, 0, 1, offset=True)

    def test_indices(self, num_frames: int, fps: float, num_views: int) -> list[np.ndarray]:
        """See :meth:`FrameSampler.test_indices`."""
        return [
            sampling.kinetics_clip(num_frames, fps, self.shape, view, num_views, self.use_offset)
            for view in range(num_views)
        ]


@FRAME_SAMPLER_REGISTRY.register("strided")
class StridedSampler(FrameSampler):
    """Charades' loader: every SAMPLING_RATE-th frame of the file; test clips over the video."""

    def __init__(self, clip_length: int, rate: int):
        super().__init__(clip_length)
        self.rate = rate

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> StridedSampler:
        """See :meth:`FrameSampler.from_cfg`."""
        return cls(cfg.DATA.NUM_FRAMES, cfg.DATA.SAMPLING_RATE)

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`FrameSampler.train_indices`."""
        return sampling.strided_random(num_frames, self.clip_length, self.rate, rng)

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """See :meth:`FrameSampler.val_indices`."""
        return sampling.strided_view(num_frames, self.clip_length, self.rate, 0, 1)

    def test_indices(self, num_frames: int, fps: float, num_views: int) -> list[np.ndarray]:
        """See :meth:`FrameSampler.test_indices`."""
        return [
            sampling.strided_view(num_frames, self.clip_length, self.rate, view, num_views)
            for view in range(num_views)
        ]


@FRAME_SAMPLER_REGISTRY.register("segment")
class SegmentSampler(FrameSampler):
    """Something-Something loader: a frame of each segment; test views shift within segments."""

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`FrameSampler.train_indices`."""
        return sampling.random_segments(num_frames, self.clip_length, rng)

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """See :meth:`FrameSampler.val_indices`."""
        return sampling.segment_view(num_frames, self.clip_length, 0, 1)

    def test_indices(self, num_frames: int, fps: float, num_views: int) -> list[np.ndarray]:
        """See :meth:`FrameSampler.test_indices`."""
        return [
            sampling.segment_view(num_frames, self.clip_length, view, num_views)
            for view in range(num_views)
        ]


@FRAME_SAMPLER_REGISTRY.register("tsn")
class TsnSampler(FrameSampler):
    """TSN's loader (arXiv 1608.00859): a frame of each segment, its middle in tests."""

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`FrameSampler.train_indices`."""
        return sampling.tsn_random(num_frames, self.clip_length, rng)

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """See :meth:`FrameSampler.val_indices`."""
        return sampling.tsn_validation(num_frames, self.clip_length)

    def test_indices(self, num_frames: int, fps: float, num_views: int) -> list[np.ndarray]:
        """See :meth:`FrameSampler.test_indices`."""
        return [sampling.tsn_test(num_frames, self.clip_length)] * num_views


@FRAME_SAMPLER_REGISTRY.register("linspace")
class LinspaceSampler(FrameSampler):
    """STAF's and TRX's loader: even steps from the first to the last frame."""

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`FrameSampler.train_indices`."""
        return sampling.linspace_random(num_frames, self.clip_length, rng)

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """See :meth:`FrameSampler.val_indices`."""
        return sampling.linspace_whole(num_frames, self.clip_length)


@FRAME_SAMPLER_REGISTRY.register("rate")
class RateSampler(FrameSampler):
    """STAM's loader: ``clip_fps`` frames per second of video, from the start."""

    def __init__(self, clip_length: int, clip_fps: float):
        super().__init__(clip_length)
        self.clip_fps = clip_fps

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> RateSampler:
        """See :meth:`FrameSampler.from_cfg`."""
        return cls(cfg.DATA.NUM_FRAMES, cfg.DATA.CLIP_FPS)

    def train_indices(self, num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See :meth:`FrameSampler.train_indices`."""
        return sampling.fixed_rate(num_frames, fps, self.clip_length, self.clip_fps, rng.random())

    def val_indices(self, num_frames: int, fps: float) -> np.ndarray:
        """See :meth:`FrameSampler.val_indices`."""
        return sampling.fixed_rate(num_frames, fps, self.clip_length, self.clip_fps)
