"""The plotting library, which is an extra."""

from __future__ import annotations

from slowfast.utils.errors import UserError


def check_plotting() -> None:
    """UserError naming the extra if the plotting library is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("pictures need matplotlib", 'pip install -e ".[plot]"') from None
