"""Video recognition research in the style of PySlowFast: one engine, one data path, one command.

>>> import slowfast
>>> slowfast.list_models("tsn*")
['tsn_bninception', 'tsn_squeezenet']
>>> model = slowfast.create_model("tsn_squeezenet", num_classes=5, num_frames=8)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from slowfast.config.schema import set_loader
from slowfast.version import __version__

if TYPE_CHECKING:
    from slowfast.inference.predictor import load
    from slowfast.models.create import create_model, list_models

__all__ = ["__version__", "create_model", "list_models", "load"]

# Imported when they are first used: ``import slowfast`` alone loads neither PyTorch nor networks.
_LAZY = {
    "create_model": ("slowfast.models.create", "create_model"),
    "list_models": ("slowfast.models.create", "list_models"),
    "load": ("slowfast.inference.predictor", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _load_registered() -> None:
    # Imported when the first configuration is made: `import slowfast` alone stays light.
    from slowfast import registered

    registered.load()


set_loader(_load_registered)
