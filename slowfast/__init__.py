"""Video recognition research in the style of PySlowFast: one engine, one data path, one command."""

from slowfast.config.schema import set_loader
from slowfast.version import __version__

__all__ = ["__version__"]


def _load_registered() -> None:
    # Imported when the first configuration is made: `import slowfast` alone stays light.
    from slowfast import registered

    registered.load()


set_loader(_load_registered)
