"""Sizes of MViT's blocks against the published tables."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from slowfast.config.load import load_config
from slowfast.models.mvit_options import (
    MVIT,
    MVIT_VARIANTS,
    MvitOptions,
    block_specs,
    first_stfm_block,
    patch_grid,
    read_mvit_options,
    round_width,
)
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "width, factor, divisor, expected",
    [(96, 2.0, 2, 192), (96, 1.0, 4, 96), (10, 1.5, 4, 16), (7, 1.0, 8, 8), (7, 0.0, 8, 7)],
)
def test_widths(width, factor, divisor, expected):
    assert round_width(width, factor, divisor) == expected


def test_options_are_the_keys():
    """With their defaults; the other two keys are no sizes."""
    keys = {name.lower(): key for name, key in MVIT.keys.items()}
    names = {field.name for field in fields(MvitOptions)}
    assert set(keys) - names == {"norm", "pretrain_name"}
    for field in fields(MvitOptions):
        default = keys[field.name].default
        assert (tuple(default) if isinstance(default, list) else default) == field.default


def test_blocks_of_mvitv2_s():
    """Hand-read from the published table: widths, heads, strides of keys and values."""
    cfg = load_config([ROOT / "configs/Kinetics/MVITv2_S_16x4.yaml"], ["NUM_GPUS", "0"])
    options = read_mvit_options(cfg)
    specs = block_specs(options, patch_grid(options, 16, 224))
    assert [s.dim_out for s in specs[:4]] == [96, 192, 192, 384] and specs[-1].dim_out == 768
    assert [s.num_heads for s in specs] == [1, 2, 2] + [4] * 11 + [8] * 2
    assert [s.stride_kv for s in specs[:4]] == [(1, 8, 8), (1, 4, 4), (1, 4, 4), (1, 2, 2)]
    assert specs[-1].stride_kv == (1, 1, 1) and specs[-1].grid == (8, 7, 7)


def test_the_table_in_the_documentation_of_block_specs():
    """The worked example of MViT-B 16x4, row by row."""
    options = MVIT_VARIANTS["mvit_b_16x4"]["options"]
    specs = block_specs(options, patch_grid(options, 16, 224))
    rows = [
        line.split("  ")
        for line in block_specs.__doc__.splitlines()
        if " x " in line and "->" in line
    ]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    covered = []
    for number, heads, channels, grid, stride_q, stride_kv in rows:
        first, _, last = number.partition("-")
        for index in range(int(first), int(last or first) + 1):
            spec = specs[index]
            assert spec.num_heads == int(heads)
            assert f"{spec.dim} -> {spec.dim_out}" == channels
            assert " x ".join(map(str, spec.grid)) == grid
            assert (", ".join(map(str, spec.stride_q)) or "-") == stride_q
            assert ", ".join(map(str, spec.stride_kv)) == stride_kv
            covered.append(index)
    assert covered == list(range(16))


def test_patches_of_images_have_no_time():
    options = MvitOptions(patch_2d=True, patch_stride=(4, 4), patch_kernel=(7, 7))
    assert patch_grid(options, 1, 224) == (1, 56, 56)
    assert patch_grid(MvitOptions(), 16, 224) == (8, 56, 56)


def test_drop_path_grows_to_its_rate():
    specs = block_specs(MvitOptions(depth=5, droppath_rate=0.4), (8, 56, 56))
    assert [s.drop_path for s in specs] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_stfm_replaces_the_last_stage():
    variant = MVIT_VARIANTS["mvitv2_s_stfm"]
    specs = block_specs(variant["options"], (8, 56, 56))
    assert first_stfm_block(specs, variant["stfm"]) == 14
    early = replace(variant["stfm"], insert_after=5)
    assert first_stfm_block(specs, early) == 6
