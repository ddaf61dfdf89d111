"""What the package offers by name."""

from __future__ import annotations

import slowfast.datasets as datasets


def test_all_names_are_there():
    assert all(hasattr(datasets, name) for name in datasets.__all__)
