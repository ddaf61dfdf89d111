"""Tables about frames and pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F

from slowfast.analysis.parity.tables import Row, as_tensor, table
from slowfast.models.slowfast import slow_frames
from slowfast.video import clip_ops, sampling
from slowfast.video.pipelines import CROP_POSITIONS
from slowfast.video.randaugment import level_argument

# -- frames ----------------------------------------------------------------------------------


@table("kinetics_clip_indices")
@table("clip_indices_native")
def _clips(row: Row) -> list[tuple[Any, Any]]:
    target = row.get("target_fps")
    shape = sampling.ClipShape(row["num_frames"], row["sampling_rate"], target)
    length = shape.source_length(row.get("fps", 0.0))
    view = (row["clip"], row["num_clips"], row["use_offset"])
    start = sampling.view_start(row["frames"], length, *view)
    ours = sampling.kinetics_clip(row["frames"], row.get("fps", 0.0), shape, *view)
    return [
        (ours.tolist(), row["indices"]),
        (float(start), float(row["start"])),
        (start + length - 1, float(row["end"])),
    ]


@table("pathways")
def _pathways(row: Row) -> list[tuple[Any, Any]]:
    return [(list(slow_frames(row["frames"], row["alpha"])), row["slow"])]


@table("clip_indices_train")
def _train_clips(row: Row) -> list[tuple[Any, Any]]:
    shape = sampling.ClipShape(row["num_frames"], row["sampling_rate"], row["target_fps"])
    ours = sampling.kinetics_clip_at(row["frames"], row["fps"], shape, row["fraction"])
    return [(ours.tolist(), row["indices"])]


@table("sth_segments_eval")
def _something_segments(row: Row) -> list[tuple[Any, Any]]:
    arguments = (row["video_length"], row["num_frames"], row["view"], row["views"])
    return [((sampling.segment_view(*arguments) + 1).tolist(), row["indices_from_1"])]


@table("ssv2_segments")
def _ssv2_segments(row: Row) -> list[tuple[Any, Any]]:
    arguments = (row["video_length"], row["num_frames"])
    bounds = sampling.segment_bounds(*arguments)
    drawn = np.array(row["train_from_0"])
    inside = bool(((bounds[:-1] <= drawn) & (drawn <= bounds[1:])).all())
    return [(bounds.tolist(), row["bounds"]), (inside, True)]


@table("tsn_segments")
def _tsn_segments(row: Row) -> list[tuple[Any, Any]]:
    arguments = (row["video_length"], row["num_segments"])
    return [
        ((sampling.tsn_validation(*arguments) + 1).tolist(), row["val_from_1"]),
        ((sampling.tsn_test(*arguments) + 1).tolist(), row["test_from_1"]),
    ]


@table("staf_linspace")
def _staf_linspace(row: Row) -> list[tuple[Any, Any]]:
    ours = sampling.linspace_between(row["video_length"], row["seq_len"], row["start"], row["end"])
    return [(ours.tolist(), row["indices"])]


@table("view_order")
def _view_order(row: Row) -> list[tuple[Any, Any]]:
    crops = CROP_POSITIONS[row["num_spatial_crops"]]
    views = [(clip, crop) for clip in range(row["num_ensemble_views"]) for crop in crops]
    video, view = divmod(row["index"], len(views))
    return [([video, *views[view]], [row["video"], row["temporal"], row["spatial"]])]


# -- pixels ----------------------------------------------------------------------------------


@table("bilinear")
def _bilinear(row: Row) -> list[tuple[Any, Any]]:
    image = as_tensor(row["input"])
    size = tuple(as_tensor(row["output"]).shape) if "output" in row else tuple(row["size"])
    # In floating point; tests of clip_ops.resize show that it equals this, rounded to uint8.
    ours = F.interpolate(image[None, None], size=size, mode="bilinear", align_corners=False)
    expected = row.get("output", row.get("out"))
    return [(ours[0, 0].tolist(), expected)]


@table("short_side")
def _short_side(row: Row) -> list[tuple[Any, Any]]:
    size = clip_ops.short_side_size(row["height"], row["width"], row["size"])
    crops = [list(clip_ops.uniform_crop_box(*size, row["crop"], i)[:2]) for i in range(3)]
    return [(list(size), row["out"]), (crops, row["crops"])]


@table("uniform_crop")
def _uniform_crop(row: Row) -> list[tuple[Any, Any]]:
    box = clip_ops.uniform_crop_box(row["height"], row["width"], row["size"], row["spatial_idx"])
    return [(list(box[:2]), [row["top"], row["left"]])]


@table("randaugment_levels")
def _randaugment(row: Row) -> list[tuple[Any, Any]]:
    arguments = (row["op"], row["magnitude"])
    return [
        (level_argument(*arguments, negate, row["translate_const"]), row[key])
        for key, negate in (("args", False), ("args_negated", True))
    ]
