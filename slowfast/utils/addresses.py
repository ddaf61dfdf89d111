"""Addresses of files that are not on this machine: which are permitted, and how they are joined.

An address is a text with a scheme: ``s3://bucket/videos/a.mp4``. It never holds a credential (a
user name, a password, a signature): those come from the environment, so that none can stand in a
log, a list or a result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slowfast.utils.errors import UserError
from slowfast.utils.paths import leads_up

WRITABLE = ("s3", "gs", "hf")  # schemes of storages that files can be written to

# Scheme -> the package by which fsspec reads it.
PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "https": "aiohttp",
    "http": "aiohttp",
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_QUERY = re.compile(r"(?<=\S)\?[^\s'\"]*")
_USER = re.compile(r"://[^/@\s]+@")


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a text is an address, of a permitted scheme or not; paths of files are none."""
    return isinstance(path, str) and _SCHEME.match(path) is not None


def problem_of(address: str) -> str:
    """Why an address is not permitted, without any part of it that may be secret; empty if it is
    permitted."""
    scheme = _SCHEME.match(address)[1]
    if scheme not in PACKAGES:
        return f"{scheme}:// is none of {', '.join(f'{name}://' for name in PACKAGES)}"
    secret = secret_in(address)
    if secret:
        return secret
    if not urlsplit(address).netloc:
        return "names no host or bucket"
    if leads_up(unquote(address)):  # a request is sent with %2e%2e decoded
        return "leads to a folder above (..)"
    return ""


def secret_in(address: str) -> str:
    """Which part of an address may be secret ("a password", or why the address cannot be read);
    empty if none is. Addresses of any scheme."""
    try:
        parts = urlsplit(address)
        has_user = parts.username is not None or parts.password is not None
    except ValueError as error:
        return str(error)
    if has_user:
        return "holds a user name or a password, which belong in the environment"
    if parts.scheme in ("http", "https") and (parts.query or parts.fragment):
        return "holds a query, which may be a signature: an address ends with the path"
    return ""


def check_address(address: str, key: str) -> None:
    """UserError naming ``key`` if an address is not permitted; it does not show the address."""
    problem = problem_of(address)
    if problem:
        raise UserError(f"the address {problem}", "", key)


def join(folder: str | os.PathLike[str], name: str) -> str:
    """The path or address of ``name`` in ``folder``; ``name`` itself, if it is absolute or an
    address."""
    if is_address(name):
        return name
    folder = os.fspath(folder)
    if is_address(folder) and not name.startswith("/"):
        return f"{folder.rstrip('/')}/{name}"
    return os.path.join(folder, name)


def in_folder(folder: str, name: str) -> str | Path:
    """:func:`join` for a file of a folder: a ``Path`` on this machine, a text elsewhere."""
    joined = join(folder, name)
    return joined if is_address(joined) else Path(joined)


def is_below(address: str, places: Sequence[str]) -> bool:
    """Whether an address lies in one of the folders ``places``."""
    return any(is_address(p) and address.startswith(f"{p.rstrip('/')}/") for p in places)


def without_secrets(text: str) -> str:
    """A message of a library without the queries and user names of the addresses in it: they may
    be signatures and passwords."""
    return _USER.sub("://", _QUERY.sub("?…", text) if "://" in text else text)
