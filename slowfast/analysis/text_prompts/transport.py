"""One request to a server that nobody vouches for: what it may send, how much, and how long.

The answer comes from the address that was asked: redirections are errors, so that no header of the
request reaches another server. Its size and the time for all of it are limited.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from slowfast.utils.errors import UserError
from slowfast.utils.text import shorten

MAX_BYTES = 4 << 20  # of an answer


class TransportError(Exception):
    """No answer that can be read; the message follows the address and holds nothing else of the
    request."""


@dataclass(frozen=True)
class Answer:
    """The status of an answer, its headers and its body."""

    status: int
    headers: Message
    body: bytes


def check_url(url: str, key: str) -> None:
    """UserError naming ``key`` if ``url`` is no address of a server."""
    problem = ""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        host, problem = "", str(error)
    else:
        if parts.scheme not in ("http", "https"):
            problem = "the address begins with http:// or https://"
        elif parts.username is not None or parts.password is not None:
            problem = "an address holds no name and no password"
        elif parts.query or parts.fragment:
            problem = "the address ends with the path"
    if problem or not host or not url.isascii() or not url.isprintable() or " " in url:
        # The address is not shown: a password may stand in it.
        raise UserError(f"is no address of a server: {problem or 'a host is needed'}", "", key)


def post(url: str, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
    """The answer to a POST within ``timeout`` seconds, whatever its status; TransportError."""
    exchange = _Exchange(urllib.request.Request(url, body, headers), timeout)
    threading.Thread(target=exchange.run, daemon=True).start()
    try:
        result = exchange.results.get(timeout=timeout)
    except queue.Empty:
        exchange.abandon()
        raise TransportError(f"gave no whole answer within {timeout:g} seconds") from None
    if isinstance(result, Answer):
        return result
    raise TransportError(result)


class _Exchange:
    """A request in a thread of its own: its sockets can be shut while it waits for them."""

    def __init__(self, request: urllib.request.Request, timeout: float):
        self.results: queue.Queue[Answer | str] = queue.Queue()
        self._request, self._timeout = request, timeout
        self._sockets: list[socket.socket] = []
        self._abandoned = False

    def run(self) -> None:
        """Put the answer, or the text of an error, into ``results``."""
        try:
            self.results.put(self._ask())
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            reason = getattr(error, "reason", error)
            text = str(reason) or type(reason).__name__
            what = "gave no valid answer" if self._sockets else "cannot be reached"
            self.results.put(shorten(f"{what}: {text}"))

    def abandon(self) -> None:
        """End the exchange from another thread."""
        self._abandoned = True
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def connected(self, connection: http.client.HTTPConnection) -> None:
        """Note the socket of a connection."""
        self._sockets.append(connection.sock)
        if self._abandoned:
            self.abandon()

    def _ask(self) -> Answer:
        # A proxy for http:// would read the headers: only https://, a tunnel, goes through one.
        proxies = {k: v for k, v in urllib.request.getproxies().items() if k in ("https", "no")}
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(proxies),
            _Http(self),
            _Https(self),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),  # without a handler of redirections
        ):
            opener.add_handler(handler)
        try:
            answer = opener.open(self._request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read(MAX_BYTES + 1)
            if len(body) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            announced = answer.headers.get("Content-Length", "")
            if announced.isdigit() and len(body) < int(announced[:18]):
                raise ValueError(f"{len(body)} of {announced[:18]} bytes came")
            return Answer(answer.status, answer.headers, body)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, exchange: _Exchange):
        super().__init__()
        self._exchange = exchange

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_noted(http.client.HTTPConnection, self._exchange), request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, exchange: _Exchange):
        super().__init__()
        self._exchange = exchange

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_noted(http.client.HTTPSConnection, self._exchange), request)


def _noted(kind: type, exchange: _Exchange) -> type:
    """A kind of connection that hands its socket to the exchange."""

    class Noted(kind):
        def connect(self) -> None:
            super().connect()
            exchange.connected(self)

    return Noted
