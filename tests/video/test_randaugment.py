"""RandAugment against Pillow, and its shortcut against the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from slowfast.utils.errors import UserError
from slowfast.video.clip_ops import crop
from slowfast.video.randaugment import (
    BASIC,
    INCREASING,
    apply_op,
    level_argument,
    parse_randaugment,
)
from tests.conftest import noise_clip

GREY = (128, 128, 128)


def pillow(op: str, image: Image.Image, args: list) -> np.ndarray:
    def affine(*matrix):
        return image.transform(
            image.size, Image.AFFINE, matrix, resample=Image.BICUBIC, fillcolor=GREY
        )

    value = args[0] if args else None
    width, height = image.size
    results = {
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Invert": lambda: ImageOps.invert(image),
        "Posterize": lambda: ImageOps.posterize(image, value),
        "Solarize": lambda: ImageOps.solarize(image, value),
        "Color": lambda: ImageEnhance.Color(image).enhance(value),
        "Contrast": lambda: ImageEnhance.Contrast(image).enhance(value),
        "Brightness": lambda: ImageEnhance.Brightness(image).enhance(value),
        "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(value),
        "Rotate": lambda: image.rotate(value, resample=Image.BICUBIC, fillcolor=GREY),
        "ShearX": lambda: affine(1, value, 0, 0, 1, 0),
        "ShearY": lambda: affine(1, 0, 0, value, 1, 0),
        "TranslateXRel": lambda: affine(1, 0, value * width, 0, 1, 0),
        "TranslateYRel": lambda: affine(1, 0, 0, 0, 1, value * height),
    }
    return np.array(results[op]())


@pytest.mark.parametrize("op", [op for op in BASIC if op != "SolarizeAdd"])
@pytest.mark.parametrize("magnitude, negate", [(3.0, False), (7.0, True)])
def test_same_as_pillow(op, magnitude, negate):
    clip = noise_clip(2, 60, 80)
    args = level_argument(op, magnitude, negate)
    ours = apply_op(op, clip, args)
    for frame, image in zip(ours, clip):
        theirs = pillow(op, Image.fromarray(image), args).astype(int)
        difference = np.abs(frame.astype(int) - theirs)
        geometric = op in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
        if geometric:  # other bicubic kernel, other treatment of the border
            assert difference[4:-4, 4:-4].mean() < 2.5
        else:
            assert difference.max() <= 2


def test_solarize_add():
    clip = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    ours = apply_op("SolarizeAdd", clip, [30])[0][..., 0].ravel()
    expected = [min(v + 30, 255) if v < 128 else v for v in range(256)]
    assert ours.tolist() == expected


def test_part_equals_cropped_whole():
    policy = parse_randaugment("rand-m7-n4-mstd0.5-inc1")
    clip = noise_clip(2, 50, 70)
    rng = np.random.default_rng(0)
    for seed in range(150):
        box = (*rng.integers(0, 20, 2).tolist(), *rng.integers(5, 30, 2).tolist())
        whole = np.asarray(policy(clip, np.random.default_rng(seed)))
        part = np.asarray(policy(clip, np.random.default_rng(seed), box))
        # Warping computes positions in fixed point: a level or two may differ.
        assert np.abs(crop(whole, box).astype(int) - part).max() <= 3


def test_one_draw_for_all_frames():
    still = np.repeat(noise_clip(1, 40, 40), 4, axis=0)
    for seed in range(30):
        policy = parse_randaugment("rand-m9-n3-mstd0.5-inc1")
        out = np.asarray(policy(still, np.random.default_rng(seed)))
        assert (out == out[:1]).all()


def test_policy_strings():
    policy = parse_randaugment("rand-m7-n4-mstd0.5-inc1")
    assert (policy.magnitude, policy.num_ops, policy.magnitude_std) == (7, 4, 0.5)
    assert list(policy.ops) == INCREASING
    assert list(parse_randaugment("rand-inc0").ops) == INCREASING  # as published
    assert list(parse_randaugment("rand").ops) == BASIC
    weighted = parse_randaugment("rand-n3-w0")
    names = [op for s in range(50) for op, _ in weighted.draw(np.random.default_rng(s))]
    assert "Invert" not in names and "Rotate" in names
    for wrong in ("auto-m5", "rand-x3"):
        with pytest.raises(UserError, match="AUG.AA_TYPE"):
            parse_randaugment(wrong)


def test_operations_repeat_only_without_weights():
    def repeats(text: str) -> bool:
        policy = parse_randaugment(text)
        drawn = [[op for op, _ in policy.draw(np.random.default_rng(s))] for s in range(200)]
        return any(len(set(names)) < len(names) for names in drawn)

    assert repeats("rand-m5-n4") and not repeats("rand-m5-n4-w0")


def test_half_of_the_operations_apply():
    policy = parse_randaugment("rand-m5-n4")
    counts = [len(policy.draw(np.random.default_rng(s))) for s in range(500)]
    assert 1.8 < np.mean(counts) < 2.2
