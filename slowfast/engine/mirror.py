"""OUTPUT_MIRROR: a copy of OUTPUT_DIR at an address, from which another machine goes on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.utils import remote
from slowfast.utils.addresses import join
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.json_text import json_text
from slowfast.utils.locks import NAME as LOCK
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_COPIED = ".mirror.json"  # size and time of the files that have been copied, by name
_KEY = "OUTPUT_MIRROR"


class OutputMirror:
    """The copy of the folder ``OUTPUT_DIR`` at the address OUTPUT_MIRROR; does nothing where that
    is empty."""

    def __init__(self, cfg: CfgNode):
        self.folder, self.address, self.task = Path(cfg.OUTPUT_DIR), cfg.OUTPUT_MIRROR, cfg.TASK

    def restore(self) -> None:
        """Fetch the files of the mirror into a folder that has no checkpoint, or in which an
        earlier call was interrupted; those that are there stay as they are. UserError if the mirror
        cannot be read."""
        if not self.address:
            return
        noted = self._noted()
        is_interrupted = noted.get("restoring", False)
        if not is_interrupted and (noted or run_checkpoints(self.folder, self.task)):
            return
        try:
            names = remote.names_below(self.address)
            if names:
                logger.info("OUTPUT_DIR begins with %d files of %s", len(names), self.address)
            self._note({}, restoring=True)
            for name in sorted(names, key=_checkpoints_last):
                self._fetch(name)
            present = self._present()
            self._note({name: stamp for name, stamp in present.items() if name in names})
        except OSError as error:
            text = f"{self.address} cannot be read: {error.strerror or error}"
            raise UserError(text, "check the address and the credentials", _KEY) from error

    def _fetch(self, name: str) -> None:
        target = self.folder / name
        if ".." in Path(name).parts or target.exists():
            return
        make_dirs(target.parent)
        remote.download(join(self.address, name), target)

    def save(self) -> None:
        """Copy the files that have changed, and remove copies of those that are gone.

        RemoteError if that is not possible; the next call copies what is left.
        """
        if not self.address:
            return
        copied, present = dict(self._noted().get("files", {})), self._present()
        try:
            for name, stamp in present.items():
                if copied.get(name) != stamp:
                    remote.upload(self.folder / name, join(self.address, name))
                    copied[name] = stamp
            for name in copied.keys() - present.keys():
                remote.remove(join(self.address, name))
                del copied[name]
        finally:
            self._note(copied)

    def save_or_warn(self) -> None:
        """:meth:`save`, whose failure is a warning: the files are in OUTPUT_DIR in any case."""
        try:
            self.save()
        except OSError as error:
            text = "%s does not hold the last files of %s: %s"
            logger.warning(text, self.address, self.folder, error.strerror or error)

    def _present(self) -> dict[str, list[int]]:
        """Name -> size and time of the files of the folder, links and hidden ones left out;
        checkpoints last, so that what they need is there before them."""
        found: dict[str, list[int]] = {}
        for root, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                path = Path(root, name)
                if path.is_file() and not path.is_symlink() and name[0] != "." and name != LOCK:
                    stat = path.stat()
                    found[str(path.relative_to(self.folder))] = [stat.st_size, stat.st_mtime_ns]
        return {name: found[name] for name in sorted(found, key=_checkpoints_last)}

    def _noted(self) -> dict[str, Any]:
        """What was noted before; nothing, if that is unknown or was of another address."""
        try:
            content = json.loads((self.folder / _COPIED).read_text(encoding="utf-8"))
            return content if content["address"] == self.address else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}

    def _note(self, copied: dict[str, list[int]], restoring: bool = False) -> None:
        content = {"address": self.address, "files": copied, "restoring": restoring}
        write_text_atomic(self.folder / _COPIED, json_text(content) + "\n")


def _checkpoints_last(name: str) -> tuple[bool, str]:
    """The order in which files are copied: a checkpoint is there only with what it needs."""
    return name.endswith(".pyth"), name


@contextlib.contextmanager
def mirrored(cfg: CfgNode) -> Iterator[None]:
    """A run whose OUTPUT_DIR begins with the files of OUTPUT_MIRROR and is copied there at its end,
    whatever that is.

    UserError if the mirror cannot be read; RunFailure if the files of a run that has ended well
    cannot be copied.
    """
    mirror = OutputMirror(cfg)
    mirror.restore()
    try:
        yield
    except BaseException:
        mirror.save_or_warn()
        raise
    try:
        mirror.save()
    except OSError as error:
        raise RunFailure(
            f"the run has ended, but {cfg.OUTPUT_MIRROR} cannot be written: "
            f"{error.strerror or error}",
            f"all files are in {cfg.OUTPUT_DIR}; repeat the command to copy them",
            _KEY,
        ) from error
