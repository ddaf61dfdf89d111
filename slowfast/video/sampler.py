"""A sampler bound to a configuration: (frames, fps) -> indices for training, validation, test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slowfast.config.node import CfgNode
from slowfast.video import sampling


@dataclass(frozen=True)
class FrameSampler:
    """``kind``: clip (Kinetics), segment (Something-Something), tsn, linspace or rate (STAM).

    ``clip_fps``: frames of a clip for one second of video (kind rate).
    """

    kind: str
    shape: sampling.ClipShape
    use_offset: bool = False
    clip_fps: float = 1.0

    def train(self, frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Indices of a random training clip."""
        count = self.shape.num_frames
        if self.kind == "clip":
            return sampling.kinetics_random_clip(frames, fps, self.shape, rng)
        if self.kind == "rate":
            return sampling.at_rate(frames, fps, count, self.clip_fps, rng.random())
        draw = {
            "segment": sampling.random_segments,
            "tsn": sampling.tsn_random,
            "linspace": sampling.linspace_random,
        }[self.kind]
        return draw(frames, count, rng)

    def validation(self, frames: int, fps: float) -> np.ndarray:
        """Indices of the one central validation clip."""
        if self.kind == "clip":
            return sampling.kinetics_clip(frames, fps, self.shape, 0, 1, use_offset=True)
        if self.kind == "tsn":
            return sampling.tsn_validation(frames, self.shape.num_frames)
        return self.test(frames, fps, 1)[0]

    def test(self, frames: int, fps: float, views: int) -> list[np.ndarray]:
        """Indices of each of ``views`` test clips."""
        count = self.shape.num_frames
        if self.kind == "clip":
            return [
                sampling.kinetics_clip(frames, fps, self.shape, view, views, self.use_offset)
                for view in range(views)
            ]
        if self.kind == "rate":
            return [sampling.at_rate(frames, fps, count, self.clip_fps)] * views
        if self.kind == "segment":
            return [sampling.segment_view(frames, count, view, views) for view in range(views)]
        one = sampling.tsn_test if self.kind == "tsn" else sampling.linspace_full
        return [one(frames, count)] * views


def build_sampler(cfg: CfgNode, default_kind: str) -> FrameSampler:
    """The sampler that DATA describes; ``default_kind`` is what the data set's loader does."""
    data = cfg.DATA
    native = data.FRAME_RATE == "native" or (
        data.FRAME_RATE == "auto" and data.DECODING_BACKEND == "decord"
    )
    shape = sampling.ClipShape(
        data.NUM_FRAMES, data.SAMPLING_RATE, None if native else float(data.TARGET_FPS)
    )
    kind = default_kind if data.SAMPLING == "auto" else data.SAMPLING
    return FrameSampler(kind, shape, data.USE_OFFSET_SAMPLING, data.CLIP_FPS)
