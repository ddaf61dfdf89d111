"""An S3 server on the loopback interface (moto's), whose answers can be broken on purpose."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BUCKET = "videos"
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
SECRET = "wJalrXUtnFEMI-not-to-be-seen"


@dataclass
class Storage:
    """``url`` of the server; ``requests``: (method, path, range) of those that came; ``faults``:
    what happens to the next answers for objects, one each (None: nothing)."""

    app: Callable
    url: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[Callable | None] = field(default_factory=list)

    def __call__(self, environ, start_response):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        self.requests.append((method, path, environ.get("HTTP_RANGE", "")))
        fault = self.faults.pop(0) if self.faults and method in ("GET", "HEAD") else None
        if fault is None:
            return self.app(environ, start_response)
        return fault(self.app, environ, start_response)

    def environment(self) -> dict[str, str]:
        """What leads to it."""
        return dict(zip(NAMES, ("AKIAEXAMPLE", SECRET, self.url, "us-east-1")))

    def put(self, name: str, content: bytes | Path) -> str:
        """Store an object; its address."""
        import s3fs

        data = content.read_bytes() if isinstance(content, Path) else content
        s3fs.S3FileSystem().pipe_file(f"{BUCKET}/{name}", data)
        return f"s3://{BUCKET}/{name}"

    def put_folder(self, folder: Path) -> str:
        """Store all files below a folder; the address of it."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{folder.name}/{path.relative_to(folder)}", path)
        return f"s3://{BUCKET}/{folder.name}"

    def bytes_of(self, name: str) -> int:
        """Bytes of an object that were asked for."""
        total = 0
        for method, path, span in self.requests:
            if method == "GET" and path == f"/{BUCKET}/{name}" and span:
                first, last = span.removeprefix("bytes=").split("-")
                total += int(last) - int(first) + 1
        return total


def unavailable(app, environ, start_response):
    """503, as a storage says it when it is asked too much."""
    start_response("503 Slow Down", [("Content-Length", "0")])
    return [b""]


def forbidden(app, environ, start_response):
    """403."""
    start_response("403 Forbidden", [("Content-Length", "0")])
    return [b""]


def reset(app, environ, start_response):
    """The connection is broken without a word."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return []


def slow(seconds: float):
    """The body comes a byte at a time and would take so long."""

    def fault(app, environ, start_response):
        body = b"".join(app(environ, start_response))
        pieces = 40
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            time.sleep(seconds / pieces)
            yield body[start : start + size]

    return fault


def cut(app, environ, start_response):
    """The body ends before the announced length."""
    body = b"".join(app(environ, start_response))
    yield body[: len(body) // 2]


def too_short(app, environ, start_response):
    """Fewer bytes than were asked for, and the head says just so many."""
    replaced = []

    def start(status, headers, *rest):
        replaced.append((status, [h for h in headers if h[0].lower() != "content-length"]))

    body = b"".join(app(environ, start))[:-7]
    status, headers = replaced[0]
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]


@contextlib.contextmanager
def serving() -> Iterator[Storage]:
    """A server with an empty bucket, and the environment that leads to it."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    storage = Storage(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, storage, threaded=True)
    storage.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage.environment().items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(BUCKET)
    try:
        yield storage
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.shutdown()
