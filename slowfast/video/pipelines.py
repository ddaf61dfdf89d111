"""From decoded frames to the sample: the clip operations of training and tests, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.video import clip_ops
from slowfast.video.erasing import RandomErasing
from slowfast.video.randaugment import Operation, RandAugment, parse_randaugment
from slowfast.video.source import Clip

# Number of crops -> their positions along the longer side: 0 first, 1 centre, 2 last.
CROP_POSITIONS = {1: (1,), 2: (0, 2), 3: (0, 1, 2)}


def to_tensor(clip: Clip) -> torch.Tensor:
    """``... T H W 3`` -> ``... 3 T H W`` uint8, the same memory (channels last)."""
    return torch.from_numpy(np.ascontiguousarray(clip)).movedim(-1, -4)


@dataclass(frozen=True)
class ClipDraw:
    """All that is random about one training clip.

    - ``boxes``: the crop; two, from the first frame to the last, if it moves;
    - ``short_side``: frames are resized to it before they are cropped; 0: the crop is resized;
    - ``operations``: those of RandAugment, on whole frames;
    - ``mirrored``: whether left and right change places at the end;
    - ``erasing``: boxes to erase after normalisation, ``count 5``.
    """

    boxes: tuple[clip_ops.Box, ...]
    short_side: int
    operations: tuple[Operation, ...]
    mirrored: bool
    erasing: np.ndarray


@dataclass(frozen=True)
class TrainPipeline:
    """Random augmentation of one training clip; all random numbers come from ``rng``.

    :meth:`draw` draws them, :meth:`apply` computes the clip; ``deferred``: not here, but on the
    network's device (:mod:`slowfast.video.device_augment`), from the same draws.
    """

    size: int
    scales: list[int]
    area: list[float]
    aspect: list[float]
    multi_scale: list[float]
    centred: bool
    motion_shift: bool
    inverse_scale: bool
    flip: bool
    antialias: bool
    keep_aspect: bool
    randaugment: RandAugment | None
    erasing: RandomErasing | None
    deferred: bool = False

    def __call__(
        self, clip: Clip, rng: np.random.Generator, may_flip: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Frames -> video uint8 ``3 T S S``, erasing boxes ``count 5``, whether it is mirrored."""
        draw = self.draw(*clip_ops.frame_size(clip), rng, may_flip)
        return self.apply(clip, draw), torch.from_numpy(draw.erasing), draw.mirrored

    # -- what is drawn ---------------------------------------------------------------------------

    def draw(
        self, height: int, width: int, rng: np.random.Generator, may_flip: bool = True
    ) -> ClipDraw:
        """The draws for a clip with frames of this size."""
        short_side = 0
        if self.multi_scale:
            boxes = [clip_ops.multi_scale_box(height, width, self.size, self.multi_scale, rng)]
            operations = self._operations(rng)
        elif self.area:
            boxes = [
                clip_ops.random_resized_box(height, width, self.area, self.aspect, rng)
                for _ in range(1 + self.motion_shift)
            ]
            operations = self._operations(rng)
        else:
            short_side = clip_ops.random_short_side(self.scales, self.inverse_scale, rng)
            operations = self._operations(rng)
            boxes = [self._box_of_resized(height, width, short_side, rng)]
        mirrored = self.flip and rng.random() < 0.5 and may_flip
        erasing = np.zeros((1, 5), dtype=np.int64)
        if self.erasing:
            erasing = self.erasing.draw(self.size, self.size, rng)
        return ClipDraw(tuple(boxes), short_side, operations, mirrored, erasing)

    def _operations(self, rng: np.random.Generator) -> tuple[Operation, ...]:
        return tuple(self.randaugment.draw(rng)) if self.randaugment else ()

    def _box_of_resized(
        self, height: int, width: int, short_side: int, rng: np.random.Generator
    ) -> clip_ops.Box:
        frame = clip_ops.resized_size(height, width, short_side, self.keep_aspect)
        if self.centred:
            return clip_ops.centre_crop_box(*frame, self.size)
        return clip_ops.random_crop_box(*frame, self.size, rng)

    # -- what is computed ------------------------------------------------------------------------

    def apply(self, clip: Clip, draw: ClipDraw) -> torch.Tensor:
        """The clip that follows from ``draw``: uint8 ``3 T S S``."""
        clip = np.asarray(self._cropped(clip, draw))
        return to_tensor(clip[:, :, ::-1] if draw.mirrored else clip)

    def _cropped(self, clip: Clip, draw: ClipDraw) -> Clip:
        box = draw.boxes[0]
        if draw.short_side:
            clip = self._augment(clip, draw)
            clip = clip_ops.resize_short_side(
                clip, draw.short_side, self.antialias, self.keep_aspect
            )
            return clip_ops.crop(clip, box)
        if len(draw.boxes) == 1:
            part = self._augment(clip, draw, box)
            return clip_ops.resize(part, self.size, self.size, self.antialias)
        clip = self._augment(clip, draw)
        parts = [
            clip_ops.resize(clip_ops.crop([frame], b), self.size, self.size, self.antialias)
            for frame, b in zip(clip, clip_ops.moving_boxes(*draw.boxes, len(clip)))
        ]
        return np.concatenate(parts)

    def _augment(self, clip: Clip, draw: ClipDraw, box: clip_ops.Box | None = None) -> Clip:
        """RandAugment on whole frames (as published), then the part inside ``box``."""
        if self.randaugment:
            return self.randaugment.apply(clip, draw.operations, box)
        return clip_ops.crop(clip, box) if box else clip


@dataclass(frozen=True)
class EvalPipeline:
    """Short side, then uniform crops; nothing random."""

    short_side: int
    size: int
    crops: tuple[int, ...]
    antialias: bool
    keep_aspect: bool = True
    torchvision_center_crop: bool = False  # one central crop, rounded as torchvision does

    def _box(self, height: int, width: int, which: int) -> clip_ops.Box:
        if self.torchvision_center_crop:
            return clip_ops.centre_crop_box(height, width, self.size)
        return clip_ops.uniform_crop_box(height, width, self.size, which)

    def __call__(self, clips: Sequence[Clip]) -> torch.Tensor:
        """Clips of one video -> uint8 ``clips*crops 3 T S S``, the crops of a clip together.

        A frame that several clips share is resized once.
        """
        # By identity; the frame is kept beside its result, so that no other frame gets its id.
        resized: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        shape = (len(clips), len(self.crops), len(clips[0]), self.size, self.size, 3)
        out = np.empty(shape, dtype=np.uint8)
        for clip, views in zip(clips, out):
            for t, frame in enumerate(clip):
                if id(frame) not in resized:
                    (small,) = clip_ops.resize_short_side(
                        [frame], self.short_side, self.antialias, self.keep_aspect
                    )
                    resized[id(frame)] = frame, small
                _, small = resized[id(frame)]
                for view, which in zip(views, self.crops):
                    box = self._box(*small.shape[:2], which)
                    (view[t],) = clip_ops.crop([small], box)
        return to_tensor(out.reshape(-1, *shape[2:]))


def build_train_pipeline(cfg: CfgNode) -> TrainPipeline:
    """The training pipeline that DATA and AUG describe."""
    data, aug = cfg.DATA, cfg.AUG
    resized = bool(data.TRAIN_JITTER_SCALES_RELATIVE or data.TRAIN_JITTER_ASPECT_RELATIVE)
    area = list(data.TRAIN_JITTER_SCALES_RELATIVE) or [0.08, 1.0]
    policy = None
    if aug.ENABLE and aug.AA_TYPE:
        policy = parse_randaugment(aug.AA_TYPE, aug.INTERPOLATION)
    erasing = None
    if aug.ENABLE and aug.RE_PROB > 0:
        erasing = RandomErasing(aug.RE_PROB, aug.RE_MODE, aug.RE_COUNT)
    return TrainPipeline(
        size=data.TRAIN_CROP_SIZE,
        scales=list(data.TRAIN_JITTER_SCALES),
        area=area if resized else [],
        aspect=list(data.TRAIN_JITTER_ASPECT_RELATIVE) or [3 / 4, 4 / 3],
        multi_scale=list(data.TRAIN_MULTI_SCALE_CROP),
        centred=data.TRAIN_CROP_PLACE == "centre",
        motion_shift=data.TRAIN_JITTER_MOTION_SHIFT,
        inverse_scale=data.INV_UNIFORM_SAMPLE,
        flip=data.RANDOM_FLIP,
        antialias=data.ANTIALIAS,
        keep_aspect=data.KEEP_ASPECT,
        randaugment=policy,
        erasing=erasing,
        deferred=aug.DEVICE == "network",
    )


def build_val_pipeline(cfg: CfgNode, torchvision_center_crop: bool = False) -> EvalPipeline:
    """One central crop of the training size."""
    data, size = cfg.DATA, cfg.DATA.TRAIN_CROP_SIZE
    side = max(data.TRAIN_JITTER_SCALES[0], size)
    return EvalPipeline(side, size, (1,), data.ANTIALIAS, data.KEEP_ASPECT, torchvision_center_crop)


def build_test_pipeline(cfg: CfgNode, short_side_is_crop: bool) -> EvalPipeline:
    """Test crops; ``short_side_is_crop``: also with one crop (Something-Something)."""
    data, test = cfg.DATA, cfg.TEST
    count, size = test.NUM_SPATIAL_CROPS, data.TEST_CROP_SIZE
    side = test.SHORT_SIDE
    if not side:
        side = size if count > 1 or short_side_is_crop else max(data.TRAIN_JITTER_SCALES[0], size)
    left = count == 1 and test.SINGLE_CROP == "left"
    crops = (0,) if left else CROP_POSITIONS[count]
    return EvalPipeline(side, size, crops, data.ANTIALIAS, data.KEEP_ASPECT)
