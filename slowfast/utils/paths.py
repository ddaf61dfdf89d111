"""What tools read and what they write: they never meet, and links lead nowhere unasked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from slowfast.utils.errors import UserError
from slowfast.utils.files import remove_leftovers
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


class Tree:
    """The folder ``root`` and what is below it, in alphabetical order.

    ``root`` itself may be a link. A link below it that leads out of it is left out, and so is what
    stands behind a broken one; :meth:`warn` says how many. With ``follow_links`` all are followed,
    each folder once.
    """

    def __init__(self, root: str | Path, follow_links: bool = False):
        self.root, self.follow_links = Path(root), follow_links
        self.left_out: list[str] = []

    def entries(self, folder: str = "") -> list[os.DirEntry]:
        """Files and folders in ``folder``, a path below the root."""
        try:
            with os.scandir(self.root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            problem = f"the folder {self.root / folder} cannot be read: {error.strerror}"
            raise UserError(problem, "check its permissions") from None
        return [entry for entry in entries if self._is_inside(entry)]

    def files(self) -> list[str]:
        """Paths of all files, relative to the root. A link to a folder is not entered unless
        ``follow_links``: the folder itself has the same files."""
        found: list[str] = []
        waiting, seen = [""], {os.path.realpath(self.root)}
        while waiting:
            folder = waiting.pop()
            for entry in self.entries(folder):
                name = os.path.join(folder, entry.name)
                if entry.is_file():
                    found.append(name)
                elif entry.is_dir(follow_symlinks=self.follow_links):
                    real = os.path.realpath(entry.path)
                    if real not in seen:
                        seen.add(real)
                        waiting.append(name)
        return sorted(found)

    def warn(self) -> None:
        """Warn about the links that were left out."""
        if self.left_out:
            logger.warning(
                "%s: %d links lead out of it and are left out, e.g. %r: --follow-links "
                "(DATA.FOLLOW_LINKS) includes what they lead to",
                self.root,
                len(self.left_out),
                self.left_out[0],
            )

    def _is_inside(self, entry: os.DirEntry) -> bool:
        if not entry.is_symlink():
            return True
        if not os.path.exists(entry.path):  # broken, or a link to itself
            return False
        if self.follow_links or is_within(entry.path, self.root):
            return True
        self.left_out.append(entry.path)
        return False


def leads_up(name: str) -> bool:
    """Whether a relative path or an address has a part ``..``."""
    return ".." in name.replace(os.sep, "/").split("/")


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Whether ``path`` is ``folder`` or below it, after all links of both."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real == root or real.startswith(os.path.join(root, ""))


def refuse_overwriting(
    sources: Iterable[str | Path], targets: Iterable[str | Path], key: str = "OUT"
) -> None:
    """UserError if a file that is written is one that is read: by its name, by a link in its path,
    or as another name of the same content (a hard link)."""
    targets = [target for target in targets if os.path.lexists(target)]
    read = {}
    for source in sources if targets else ():
        read |= dict.fromkeys(_identities(source), source)
    for target in targets:
        source = next((read[name] for name in _identities(target) if name in read), None)
        if source is not None:
            names = f"{target}" if str(source) == str(target) else f"{target}, which is {source}"
            raise UserError(f"{names}, is read: it would be overwritten", "name another file", key)


def prepare_outputs(
    targets: Iterable[str | Path], sources: Iterable[str | Path] = (), key: str = "OUT"
) -> None:
    """What every tool does before it writes: :func:`refuse_overwriting`, and the removal of what
    an earlier call left of these files when it was killed."""
    targets = list(targets)
    refuse_overwriting(sources, targets, key)
    remove_leftovers(targets)


def refuse_meeting(
    source: str | Path, names: Iterable[str], target: str | Path, made: Iterable[str]
) -> None:
    """UserError if the files ``made`` below the folder ``target`` would lie in the folder
    ``source``, or be one of its files ``names``."""
    made = list(made)
    parents = {os.path.dirname(os.path.join(target, name)) for name in made}
    for parent in sorted({str(target), *parents}):
        if is_within(parent, source):
            what = f"{parent} lies in {source}"
            if os.path.realpath(parent) == os.path.realpath(source):
                what = f"{parent} is {source}"
            remedy = "what is read would be overwritten, or what is written read; name another one"
            raise UserError(f"{what}, the folder that is read", remedy, "TARGET")
    sources = (os.path.join(source, name) for name in names)
    refuse_overwriting(sources, (os.path.join(target, name) for name in made), "TARGET")


def _identities(path: str | Path) -> Iterator[object]:
    """What equal files have in common: their place after all links, and their inode."""
    yield os.path.realpath(path)
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return
    if not os.path.isdir(path):
        yield stat.st_dev, stat.st_ino
