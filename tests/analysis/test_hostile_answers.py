"""A chat service that answers anything: one clear error each, in bounded time, the key unseen."""

from __future__ import annotations

import gzip
import json
import logging
import os
import socket
import threading
import time

import pytest
import yaml

from slowfast.analysis.text_prompts import service, stages, transport
from slowfast.utils.errors import RunFailure, UserError
from tests.conftest import run_tool

KEY = "sk-very-secret-0123456789"
ASKED = stages.graph_messages("x")


class RawServer:
    """Sends the same bytes to everybody who asks; what was sent to it is in ``requests``."""

    def __init__(self, *parts: bytes, pause: float = 0.0):
        self.requests: list[bytes] = []
        self._parts, self._pause = parts, pause
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self.requests.append(self._request(connection))
                    for part in self._parts:
                        connection.sendall(part)
                        time.sleep(self._pause)
                except OSError:
                    continue  # who asked has gone

    def _request(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(h[15:]) for h in head.split(b"\r\n") if h.startswith(b"Content-Length:"))
        while len(body) < length:
            body += connection.recv(65536)
        return data

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


def http(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def content(value: object) -> bytes:
    return http(json.dumps({"choices": [{"message": {"content": value}}]}).encode())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ERROR = b'{"error": {"message": "busy"}}'

# Name -> bytes that the transport or the protocol refuses, and what the error says.
BROKEN = {
    "nothing": (b"", "no valid answer"),
    "no HTTP": (b"hello\r\n\r\n", "no valid answer: hello"),
    "status that is no number": (b"HTTP/1.1 abc OK\r\n\r\n", "no valid answer"),
    "status of one digit": (b"HTTP/1.1 2 OK\r\n\r\n{}", "no valid answer"),
    "status of a million": (b"HTTP/1.1 1000000 OK\r\n\r\n{}", "no valid answer"),
    "negative status": (b"HTTP/1.1 -200 OK\r\n\r\n{}", "no valid answer"),
    "long status line": (b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n", "no valid answer"),
    "101 headers": (http(b"{}", "200 OK", *(f"X-{n}: 1" for n in range(101))), "100 headers"),
    "long header": (http(b"{}", "200 OK", "X: " + "x" * 100_000), "no valid answer"),
    "cut header": (b"HTTP/1.1 200 OK\r\nContent-Le", "no JSON"),
    "short body": (http(b"{}", length=100), "2 of 100 bytes came"),
    "length of no number": (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{", "no JSON"),
    "negative length": (http(b"{", length=-5), "no JSON"),
    "huge length": (http(b"{}", length=10**30), "no valid answer"),
    "bad chunk": (CHUNKED + b"zz\r\n{}\r\n", "no valid answer"),
    "negative chunk": (CHUNKED + b"-5\r\n{}\r\n", "no valid answer"),
    "cut chunk": (CHUNKED + b"ff\r\n{}", "no valid answer"),
    "huge chunk": (CHUNKED + b"f" * 15 + b"\r\n{}", "no valid answer"),
    "too large": (http(b" " * (transport.MAX_BYTES + 1)), "more than 4194304 bytes"),
    "empty body": (http(b""), "no JSON"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "no JSON"),
    "web page": (http(b"<html><body>Welcome</body></html>"), "no JSON"),
    "cut JSON": (http(b'{"choices": ['), "no JSON"),
    "deep JSON": (http(b"[" * 200_000), "no JSON"),
    "number of 5000 digits": (http(b"1" * 5000), "no JSON"),
    "UTF-16 without a mark": (http("é{}".encode("utf-16-le")), "no JSON"),
    "no UTF-8": (http(b'{"a": "\xff"}'), "no JSON"),
    "compressed": (
        http(gzip.compress(b" " * 10**6), "200 OK", "Content-Encoding: gzip"),
        "no JSON",
    ),
    "NUL": (http(b"\0" * 100), "no JSON"),
    "list": (http(b"[]"), "without a message"),
    "number": (http(b"3"), "without a message"),
    "null": (http(b"null"), "without a message"),
    "choices that are a text": (http(b'{"choices": "abc"}'), "without a message"),
    "choices that are a map": (http(b'{"choices": {}}'), "without a message"),
    "message that is null": (http(b'{"choices": [{"message": null}]}'), "without a message"),
    "content that is null": (content(None), "without a message"),
    "content that is a list": (content(["a"]), "without a message"),
    "content that is a number": (content(1e999), "without a message"),
    "pause that is nan": (http(ERROR, "503 x", "Retry-After: nan"), "503 busy"),
    "negative pause": (http(ERROR, "429 x", "Retry-After: -5"), "429 busy"),
    "pause that is a word": (http(ERROR, "429 x", "Retry-After: soon"), "429 busy"),
    "pause until yesterday": (
        http(ERROR, "429 x", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
        "429 busy",
    ),
    "error that echoes the key": (http(b"x" * 190 + KEY.encode(), "500 x"), "500 xxx"),
    "error with control characters": (http(b"\x1b[2Jgone", "500 x"), "500 '"),
    "error of deep JSON": (http(b"[" * 100_000, "500 x"), "500 ["),
    "error without a body": (http(b"", "500 x"), "answered 500"),
    "early hints without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "no valid answer"),
}


def ask(url: str, tries: int = 1, timeout: float = 5.0) -> str:
    chat = service.ChatService(service.Secret(KEY), url, "m", tries, 0.0, timeout)
    return chat.ask(ASKED)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_answers(kind, caplog):
    data, said = BROKEN[kind]
    caplog.set_level(logging.DEBUG)
    with RawServer(data) as server, pytest.raises(RunFailure) as caught:
        ask(server.url, tries=2)
    text = str(caught.value)
    assert said in text and "in 2 tries" in text and len(text) < 700
    assert len(server.requests) == 2
    shown = text + caplog.text
    assert KEY not in shown and KEY[:12] not in shown and "\x1b" not in shown


REFUSED = {
    "unauthorized": ("401 x", "check OPENAI_API_KEY"),
    "forbidden": ("403 x", "check OPENAI_API_KEY"),
    "no such model": ("404 x", "check --model"),
    "payment": ("402 x", "check --model"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_are_not_repeated(kind):
    status, said = REFUSED[kind]
    data = http(ERROR + KEY.encode(), status)
    with RawServer(data) as server, pytest.raises(UserError, match=said) as caught:
        ask(server.url, tries=3)
    assert len(server.requests) == 1 and KEY not in str(caught.value)


@pytest.mark.parametrize("status", ["300 x", "301 x", "302 x", "303 x", "307 x", "308 x"])
@pytest.mark.parametrize("target", ["{other}/v1/chat/completions", "file:///etc/passwd", ""])
def test_redirections_are_refused(status, target):
    """Neither the key nor anything else reaches another address."""
    with RawServer(content("mine")) as other:
        location = target.replace("{other}", f"http://127.0.0.1:{other.port}")
        data = http(b"", status, f"Location: {location}")
        with RawServer(data) as server, pytest.raises(UserError, match="redirects to") as caught:
            ask(server.url, tries=3)
        assert not other.requests and len(server.requests) == 1
    assert "OPENAI_BASE_URL" in str(caught.value) and KEY not in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        [b" "] * 200,  # before the status line
        [b"HTTP/1.1 200 OK\r\n"] + [b"X-A: b\r\n"] * 200,  # headers
        [http(b"", length=10**6)] + [b" "] * 200,  # the body
        [b"HTTP/1.1 500 x\r\nContent-Length: 100000\r\n\r\n"] + [b" "] * 200,  # an error's body
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 200,
        [b""] * 20,  # silence
    ],
)
def test_the_time_of_a_whole_answer_is_limited(parts):
    # In silence the socket's own limit, which is as long, may end the wait first.
    late = pytest.raises(RunFailure, match="no whole answer within 0.3 seconds|: timed out")
    with RawServer(*parts, pause=0.05) as server, late:
        ask(server.url, timeout=0.3)


def test_a_proxy_for_plain_http_does_not_get_the_key(monkeypatch):
    with RawServer(content("from the proxy")) as proxy, RawServer(content("mine")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert ask(server.url) == "mine"
        assert not proxy.requests and KEY.encode() in server.requests[0]


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/v1", "x", "http://", "http://a:b@host/", "http://h:99999/v1"]
    + ["http://h/v1?q=1", "http://h\r\nX: y/", "http://[::1/", "http://ho st/", "https://é/"],
)
def test_addresses_are_checked(url, name, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv(name, url)
    with pytest.raises(UserError, match=f"{name}: is no address") as caught:
        service.read_settings(tmp_path / "absent")
    assert "a:b" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-a\r\nX: y", "sk a", "sk-é", "\ufeffsk"])
def test_keys_that_no_header_holds(key, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY: holds characters") as caught:
        service.read_settings(tmp_path / "absent")
    assert key not in str(caught.value)


BAD_TEXTS = {
    "alias bomb": "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    ),
    "alias in itself": "x: &a [*a]",
    "python tag": "x: !!python/object/apply:os.system [ls]",
    "binary": "x: !!binary aGVsbG8=",
    "deep": "[" * 50_000,
    "deep blocks": "- " * 30_000,
    "NUL": "x: \0",
    "surrogate": "x: \ud800",
    "same key twice": "x: {label: a, label: b}",
    "long": "x" * 200_000,
    "line ends after a fence": "```" + "\n" * 90_000,
    "many fences": "```" * 30_000,
    "number of 5000 digits": "x: " + "1" * 5000,
    "date": "2024-01-01",
    "two documents": "--- a\n--- b",
    "unclosed quote": "x: 'abc",
    "list": "[1, 2]",
    "empty": "",
    "fields of other types": yaml.safe_dump({"x": {"obj_en_li": {"a": 1}, "sub_act_en_li": 3}}),
    "texts of other types": yaml.safe_dump({"x": {name: [1, None] for name in stages.LISTS}}),
}


@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_texts_of_no_use(kind):
    start = time.process_time()
    with pytest.raises(stages.BadAnswer) as caught:
        stages.parse_graph(BAD_TEXTS[kind], "x")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert time.process_time() - start < 20  # some of these took minutes


def test_the_command_never_shows_the_key(tmp_path):
    """A service that repeats the key in its answer: neither the output nor the file holds it."""
    graph = {name: [f"<{KEY}, a, b>"] for name in stages.TRIPLES} | {n: [KEY] for n in stages.LISTS}
    answers = [content(f"{KEY}: [{KEY}"), content(yaml.safe_dump({"x": graph}, default_style='"'))]
    (tmp_path / "classes.txt").write_text("x\n")
    for data, code in zip(answers, (1, 0)):
        with RawServer(data) as server:
            env = os.environ | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
            words = ("askg", tmp_path / "classes.txt", tmp_path / "out.yml", "--attempts", 2)
            done = run_tool("text_prompts.py", *words, env=env)
        assert done.returncode == code, done.stderr
        assert KEY not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert "***" in (tmp_path / "out.yml").read_text()
    assert KEY not in (tmp_path / "out.yml").read_text()
