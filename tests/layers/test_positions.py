"""Resizing of position embeddings, and sines and cosines, against values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from slowfast.layers import positions


def test_nearest_repeats_positions():
    pos = torch.arange(5.0).view(1, 5, 1)
    assert positions.resize_pos_embed_nearest(pos, 2, 2) is pos
    resized = positions.resize_pos_embed_nearest(pos, 4, 4)
    assert resized[0, 0, 0] == 0  # class token
    assert resized[0, 1:, 0].view(4, 4).tolist() == [[1, 1, 2, 2]] * 2 + [[3, 3, 4, 4]] * 2
    wide = positions.resize_pos_embed_nearest(pos, 2, 4)
    assert wide[0, 1:, 0].view(2, 4).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]


def test_nearest_in_time():
    line = torch.arange(2.0).view(1, 2, 1)
    assert positions.resize_pos_embed_nearest_1d(line, 2) is line
    assert positions.resize_pos_embed_nearest_1d(line, 4).flatten().tolist() == [0, 0, 1, 1]


def test_linear_interpolates_between_centres():
    line = torch.tensor([0.0, 4.0]).view(1, 2, 1)
    resized = positions.resize_pos_embed_linear_1d(line, 4)
    assert resized.flatten().tolist() == [0, 1, 3, 4]
    table = torch.tensor([[0.0, 1.0], [4.0, 1.0]])
    assert positions.resize_rel_pos(table, 4).tolist() == [[0, 1], [1, 1], [3, 1], [4, 1]]


def test_linear_keeps_the_precision():
    line = torch.rand(1, 3, 2).half()
    assert positions.resize_pos_embed_linear_1d(line, 5).dtype == torch.float16


def test_bicubic_resizes_the_grid_only():
    constant = torch.full((1, 4, 3), 2.0)
    assert torch.allclose(positions.resize_pos_embed_bicubic(constant, 16), torch.tensor(2.0))
    pos = torch.cat([torch.full((1, 2), 9.0), torch.rand(4, 2)])
    assert positions.resize_clip_pos_embed(pos, 5) is pos
    resized = positions.resize_clip_pos_embed(pos, 10)
    assert resized.shape == (10, 2) and resized[0].tolist() == [9, 9]
    assert torch.equal(resized[1:], positions.resize_pos_embed_bicubic(pos[None, 1:], 9)[0])


def test_bicubic_follows_rows_and_columns():
    rows = torch.arange(4.0).repeat_interleave(4).view(1, 16, 1)  # depends on the row alone
    resized = positions.resize_pos_embed_bicubic(rows, 64).view(8, 8)
    assert torch.allclose(resized, resized[:, :1].expand(-1, 8), atol=1e-6)
    assert (resized[1:, 0] > resized[:-1, 0]).all()


@pytest.mark.parametrize("interleave", [False, True])
def test_sincos_by_hand(interleave):
    table = positions.sincos(
        torch.tensor([0.0, 3.0]), 4, base=100.0, scale=2.0, interleave=interleave
    )
    angles = (3 * 2.0, 3 * 2.0 / 10)  # 100 ** -(2 / 4) is a tenth
    sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
    if interleave:
        expected = [sines[0], cosines[0], sines[1], cosines[1]]
        assert table[0].tolist() == [0, 1, 0, 1]
    else:
        expected = sines + cosines
        assert table[0].tolist() == [0, 0, 1, 1]
    assert table[1].tolist() == pytest.approx(expected, abs=1e-6)


def test_scaled_wavelengths():
    """The first frequency alternates from position to position, the last needs all of them."""
    table = positions.sincos_scaled(8, 64)
    cosines = table[:, 32:]
    assert torch.allclose(cosines[:, 0], torch.tensor([1.0, -1.0]).repeat(4), atol=1e-5)
    last = math.pi * 8 ** -(31 / 32)
    assert cosines[:, -1].tolist() == pytest.approx(
        [math.cos(last * n) for n in range(8)], abs=1e-5
    )
    assert last * 7 < math.pi  # less than half a wave


def test_scaled_grid_is_column_and_row():
    side, dim = 3, 8
    grid, line = positions.sincos_scaled_2d(side, dim), positions.sincos_scaled(side, dim // 2)
    assert grid.shape == (9, dim)
    for y in range(side):
        for x in range(side):
            assert torch.equal(grid[y * side + x], torch.cat([line[x], line[y]]))


def test_sincos_over_time_and_space():
    pos = positions.sincos_3d(32, 2, 3, class_token=True)
    assert pos.shape == (1, 13, 32) and not pos[0, 0].any()
    grid = pos[0, 1:].unflatten(0, (3, 2, 2))
    assert torch.equal(grid[0, ..., 8:], grid[2, ..., 8:])  # space does not depend on time
    assert torch.equal(grid[1, 0, 0, :8], grid[1, 1, 1, :8])  # nor time on space
    assert torch.equal(grid[0, 0, 1, 8:20], grid[0, 1, 1, 8:20])  # columns first,
    assert torch.equal(grid[0, 1, 0, 20:], grid[0, 1, 1, 20:])  # then rows
    assert grid[1, 0, 0, 0] == pytest.approx(math.sin(1), abs=1e-6)
    assert torch.equal(positions.sincos_3d(32, 2, 3, class_token=False), pos[:, 1:])
