"""Matplotlib, which is an extra."""

from __future__ import annotations

import importlib
from typing import Any

from slowfast.utils.errors import UserError


def require_matplotlib(module: str = "matplotlib", key: str = "") -> Any:
    """Matplotlib, or a ``module`` of it; UserError that names the extra, and the ``key`` or option
    that asked for it, if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            "Matplotlib, which draws it, is not installed", 'pip install -e ".[plot]"', key
        ) from error
