"""Video recognition research in the style of PySlowFast: one engine, one data path, one command."""

from slowfast.version import __version__

__all__ = ["__version__"]
