"""Random numbers of a sample depend on its names and numbers alone."""

from __future__ import annotations

import itertools

import numpy as np

from slowfast.utils.seeding import sample_rng


def draw(*args, **kwargs) -> list[int]:
    return sample_rng(*args, **kwargs).integers(0, 2**32, 4).tolist()


def test_the_same_sample_draws_the_same_numbers():
    first = draw(1, 2, 3)
    np.random.seed(0)  # global generators and earlier draws change nothing
    draw(5, 5, 5)
    assert draw(1, 2, 3) == first


def test_every_part_of_the_name_matters():
    keys = [*itertools.product((0, 1), (0, 1), (0, 1)), (0, 0, 2), (2, 0, 0)]
    draws = [tuple(draw(*key)) for key in keys] + [tuple(draw(0, 0, 0, "order"))]
    assert len(set(draws)) == len(draws)


def test_negative_and_large_seeds():
    assert draw(-1, 0, 0) == draw(2**32 - 1, 0, 0)
    assert draw(2**32 + 7, 0, 0) == draw(7, 0, 0)


def test_draws_of_neighbours_are_unrelated():
    """The first number of 2000 neighbouring samples is uniform: mean and neighbours' correlation."""
    numbers = np.array([sample_rng(0, 0, index).random() for index in range(2000)])
    assert abs(numbers.mean() - 0.5) < 4 / np.sqrt(12 * 2000)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 4 / np.sqrt(2000)


def test_numbers_stay_what_they_are():
    """A change of the generator would change every training: these are its draws."""
    assert draw(1, 2, 3, "order") == [2259979493, 184055422, 1293347913, 4161685675]
