"""OUTPUT_MIRROR: a copy of OUTPUT_DIR at an address, from which another machine goes on."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.models.weights.folder_index import INDEX
from slowfast.utils import remote
from slowfast.utils.addresses import join
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.json_text import json_text
from slowfast.utils.locks import NAME as LOCK
from slowfast.utils.logging import get_logger
from slowfast.utils.paths import leads_up

logger = get_logger(__name__)

_COPIED = ".mirror.json"  # in OUTPUT_DIR
_OWNER = ".mirror_owner.json"  # at the address: the run to which it belongs
_KEY = "OUTPUT_MIRROR"


@dataclass(frozen=True)
class _Noted:
    """What the folder knows of its mirror: ``files`` that have been copied, with size and time;
    ``token`` of this run, ``before`` of the one to which the mirror belonged at the start;
    ``restoring``: the files of the mirror are not all here yet."""

    address: str
    files: dict[str, list[int]] = field(default_factory=dict)
    token: str = ""
    before: str = ""
    restoring: bool = False


class OutputMirror:
    """The copy of the folder ``OUTPUT_DIR`` at the address OUTPUT_MIRROR; does nothing where that
    is empty."""

    def __init__(self, cfg: CfgNode):
        self.folder, self.address, self.task = Path(cfg.OUTPUT_DIR), cfg.OUTPUT_MIRROR, cfg.TASK

    def restore(self) -> None:
        """Fetch the files of the mirror into a folder that has no checkpoint, or in which an
        earlier call was interrupted; those that are there stay as they are. UserError if the mirror
        cannot be read, or another run has gone on with it."""
        if not self.address:
            return
        try:
            self._restore()
        except OSError as error:
            text = f"{self.address} cannot be read: {error.strerror or error}"
            raise UserError(text, "check the address and the credentials", _KEY) from error

    def _restore(self) -> None:
        noted, owner = self._noted(), self._owner()
        has_own = not noted.restoring and bool(
            noted.token or run_checkpoints(self.folder, self.task)
        )
        if has_own and owner not in ("", noted.token, noted.before):
            raise UserError(
                f"{self.address} belongs to another run than {self.folder}",
                "name another address, or an empty OUTPUT_DIR to go on from the address",
                _KEY,
            )
        noted = replace(noted, token=noted.token or secrets.token_hex(8), before=owner)
        if has_own:
            self._note(noted)
            return
        names = remote.names_below(self.address)
        names.pop(_OWNER, None)
        if names:
            logger.info("OUTPUT_DIR begins with %d files of %s", len(names), self.address)
        self._note(replace(noted, restoring=True))
        for name in sorted(names, key=_checkpoints_last):
            self._fetch(name)
        files = {name: stamp for name, stamp in self._present().items() if name in names}
        self._note(replace(noted, files=files, restoring=False))

    def _fetch(self, name: str) -> None:
        target = self.folder / name
        if leads_up(name) or name == _OWNER or target.exists():
            return
        make_dirs(target.parent)
        remote.download(join(self.address, name), target)

    def save(self, takes_over: bool = True) -> None:
        """Copy the files that have changed, and remove copies of those that are gone. With the
        first call, the mirror belongs to this run and no longer to the one it went on from; not
        ``takes_over``: if it does not already, nothing is copied.

        RemoteError if that is not possible; the next call copies what is left.
        """
        if not self.address:
            return
        noted, owner, present = self._noted(), self._owner(), self._present()
        if owner not in ("", noted.token, noted.before):
            raise remote.RemoteError(self.address, "another run has gone on with it")
        if owner != noted.token:
            if owner and not takes_over:
                return
            noted = replace(noted, token=noted.token or secrets.token_hex(8))
            self._note(noted)
            remote.write_bytes(join(self.address, _OWNER), json_text({"run": noted.token}).encode())
        copied = dict(noted.files)
        try:
            for name, stamp in present.items():
                if copied.get(name) != stamp:
                    remote.upload(self.folder / name, join(self.address, name))
                    copied[name] = stamp
            for name in sorted(copied.keys() - present.keys(), key=_checkpoints_last, reverse=True):
                remote.remove(join(self.address, name))
                del copied[name]
        finally:
            self._note(replace(noted, files=copied))

    def save_or_warn(self, takes_over: bool = True) -> None:
        """:meth:`save`, whose failure is a warning: the files are in OUTPUT_DIR in any case."""
        try:
            self.save(takes_over)
        except OSError as error:
            text = "%s does not hold the last files of %s: %s"
            logger.warning(text, self.address, self.folder, error.strerror or error)

    def _owner(self) -> str:
        """The run to which the mirror belongs; empty if it is new."""
        try:
            return str(json.loads(remote.read_bytes(join(self.address, _OWNER), 999))["run"])
        except FileNotFoundError:
            return ""
        except (ValueError, LookupError, TypeError):
            return "unknown"

    def _present(self) -> dict[str, list[int]]:
        """Name -> size and time of the files of the folder, links and hidden ones left out;
        checkpoints last, so that what they need is there before them."""
        found: dict[str, list[int]] = {}
        for root, folders, names in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                path = Path(root, name)
                hidden = name[0] == "." and name != INDEX
                if path.is_file() and not path.is_symlink() and not hidden and name != LOCK:
                    stat = path.stat()
                    found[str(path.relative_to(self.folder))] = [stat.st_size, stat.st_mtime_ns]
        return {name: found[name] for name in sorted(found, key=_checkpoints_last)}

    def _noted(self) -> _Noted:
        """What was noted before; nothing, if that is unknown or was of another address."""
        try:
            noted = _Noted(**json.loads((self.folder / _COPIED).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _Noted(self.address)
        return noted if noted.address == self.address else _Noted(self.address)

    def _note(self, noted: _Noted) -> None:
        write_text_atomic(self.folder / _COPIED, json_text(asdict(noted)) + "\n")


def _checkpoints_last(name: str) -> tuple[bool, str]:
    """The order in which files are copied: a checkpoint is there only with what it needs. Without
    its head, which ends like a checkpoint, a folder is incomplete."""
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
        mirror.save_or_warn(takes_over=False)  # a start by mistake leaves the mirror to its run
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
