"""Reads from a storage that fails: repeated within limits, with a cause that names no secret."""

from __future__ import annotations

import contextlib
import functools
import http.server
import pickle
import sys
import threading
import time

import numpy as np
import pytest

from slowfast.models.weights.read import read_checkpoint
from slowfast.utils import remote
from slowfast.utils.errors import UserError
from slowfast.utils.remote import RemoteError, RetryPolicy, exists, fetch, local_copy, names_below
from slowfast.utils.remote_file import BLOCK, RemoteFile
from slowfast.utils.text import read_text
from tests.storage import SECRET, cut, forbidden, reset, slow, too_short, unavailable

CONTENT = np.random.default_rng(0).integers(0, 256, 9 * BLOCK + 321).astype(np.uint8).tobytes()
HASTY = RetryPolicy(request_s=0.7, total_s=20)


@pytest.fixture
def address(storage):
    found = storage.put("some/numbers.bin", CONTENT)
    storage.requests.clear()
    return found


@pytest.mark.parametrize("fault", [unavailable, reset, slow(9), cut, too_short])
def test_faults_are_survived(storage, address, fault):
    storage.faults[:] = [fault, fault]
    assert fetch(address, 1000, 5000, HASTY) == CONTENT[1000:5000]
    assert len(storage.requests) == 3  # no library repeats them besides


@pytest.mark.parametrize(
    "fault, cause",
    [
        (unavailable, "Service Unavailable|Slow Down"),
        (slow(9), "does not answer, or too slowly"),
        (too_short, "3993 bytes came in place of 4000"),
    ],
)
def test_a_storage_that_stays_broken(storage, address, fault, cause):
    storage.faults[:] = [fault] * 20
    with pytest.raises(RemoteError, match=rf"({cause}).*\(3 tries in [0-9]+ seconds\)") as error:
        fetch(address, 1000, 5000, RetryPolicy(tries=3, request_s=0.5, total_s=20))
    assert len(storage.requests) == 3
    again = pickle.loads(pickle.dumps(error.value))  # it comes from a worker process
    assert (again.filename, again.strerror) == (address, error.value.strerror)


def test_the_total_limit_ends_the_tries(storage, address):
    storage.faults[:] = [slow(30)] * 20
    start = time.monotonic()
    with pytest.raises(RemoteError, match="cannot be fetched"):
        fetch(address, 0, 4000, RetryPolicy(tries=99, request_s=0.4, total_s=1.5))
    assert time.monotonic() - start < 10


def test_what_is_forbidden_is_not_tried_again(storage, address):
    storage.faults[:] = [forbidden]
    with pytest.raises(RemoteError, match="Forbidden") as error:
        fetch(address, 0, 9)
    assert len(storage.requests) == 1 and SECRET not in str(error.value)


def test_what_is_not_there(storage, address):
    assert exists(address) and not exists(f"{address}.not")
    with pytest.raises(FileNotFoundError):
        fetch("s3://no-such-bucket/a", 0, 9)
    with pytest.raises(FileNotFoundError, match="folder"):
        RemoteFile(address.rpartition("/")[0])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"gcsfs.*\n.*\[remote\]"):
        exists("gs://bucket/a.mp4")


def test_a_file_is_read_as_if_it_were_here(storage, address):
    file = RemoteFile(address)
    assert file.length == len(CONTENT)
    rng = np.random.default_rng(1)
    for position, size in rng.integers(0, [len(CONTENT) + 99, 3 * BLOCK], (60, 2)).tolist():
        file.seek(position)
        data = file.read(size)
        assert data == CONTENT[position : position + len(data)]
        assert data or position >= len(CONTENT) or not size
    file.seek(-5, 2)
    assert file.read() == CONTENT[-5:] and file.read(1) == b"" and file.tell() == len(CONTENT)


def test_reading_on_reads_ahead_and_a_part_is_a_part(storage, address):
    file = RemoteFile(address, 100, 8 * BLOCK)
    assert b"".join(iter(lambda: file.read(1 << 15), b"")) == CONTENT[100 : 100 + 8 * BLOCK]
    assert len(storage.requests) == 4  # of 1, 2, 4 and 1 blocks
    storage.requests.clear()
    whole = RemoteFile(address, 100, 8 * BLOCK, fetch_at_once=True)
    whole.seek(-3, 2)
    assert whole.read() == CONTENT[97 + 8 * BLOCK : 100 + 8 * BLOCK]
    assert len(storage.requests) == 1


def test_blank_ranges_are_not_fetched(storage, address):
    file = RemoteFile(address)
    file.skip_ranges([(10, 20), (BLOCK, 9 * BLOCK)])
    file.seek(12)
    assert file.read(99) == bytes(8) and file.fetched == 0
    assert file.read(4) == CONTENT[20:24]
    file.seek(9 * BLOCK - 2)
    assert file.read(9) == bytes(2) and file.read(9) == CONTENT[9 * BLOCK :][:9]
    assert file.fetched == BLOCK + 321


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("slowfast.utils.remote_file.fetch", lambda _, a, b, *rest: bytes(b - a))
    file = RemoteFile("s3://b/huge", length=1 << 30)
    for _ in range(400):
        file.seek(BLOCK, 1)
        file.read(1 << 16)
    assert sum(map(len, file._blocks.values())) <= 64 * BLOCK


def test_a_copy_is_fetched_once_and_again_after_a_change(storage, address):
    copy = local_copy(address)
    assert copy.read_bytes() == CONTENT and copy.name == "numbers.bin"
    storage.requests.clear()
    assert local_copy(address) == copy
    assert [method for method, _, _ in storage.requests] == ["HEAD"]
    storage.put("some/numbers.bin", CONTENT[::-1])
    assert local_copy(address).read_bytes() == CONTENT[::-1]


def test_weights_that_cannot_be_fetched(storage, address, monkeypatch):
    monkeypatch.setattr(remote, "_facts", lambda *_: {"size": len(CONTENT)})
    monkeypatch.setattr(remote, "fetch", _broken)
    with pytest.raises(UserError, match="TRAIN.CHECKPOINT_FILE_PATH: s3://.* cannot be fetched"):
        read_checkpoint(address)
    assert not list(remote.cache_folder().rglob("*.bin"))


def _broken(address, *_):
    raise RemoteError(address, "cannot be fetched: Service Unavailable")


def test_listing_and_upload(storage, address, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    remote.upload(tmp_path / "a.txt", "s3://videos/some/deep/a.txt")
    assert names_below("s3://videos/some") == {"numbers.bin": len(CONTENT), "deep/a.txt": 8}
    assert names_below("s3://videos/nothing") == {}
    assert read_text("s3://videos/some/deep/a.txt") == "one\ntwo\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_server_without_ranges(tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "a.bin").write_bytes(CONTENT)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        file = RemoteFile(f"http://127.0.0.1:{server.server_port}/a.bin")
        file.seek(5 * BLOCK)
        assert file.read(9) == CONTENT[5 * BLOCK :][:9] and file.fetched == len(CONTENT)
        file.seek(3)
        assert file.read(9) == CONTENT[3:12] and file.fetched == len(CONTENT)
        server.shutdown()


class Endless(Quiet):
    """A server without ranges that says one size and sends another one."""

    size, said, most_sent = 0, 0, 0

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(self.said))
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for sent in range(0, self.size, 1 << 16):
                Endless.most_sent = max(self.most_sent, sent)
                self.wfile.write(bytes(1 << 16))


def test_a_server_that_sends_more_than_it_was_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "MOST_AT_ONCE", 1 << 20)
    monkeypatch.setattr(Endless, "size", 200 << 20)
    monkeypatch.setattr(Endless, "said", 9000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a.bin"
        for read in (lambda: fetch(address, 0, 9000), lambda: local_copy(address)):
            with pytest.raises(RemoteError, match="more than 9000 bytes"):
                read()
        assert Endless.most_sent < 100 << 20
        monkeypatch.setattr(Endless, "size", 4 << 20)
        monkeypatch.setattr(Endless, "said", 4 << 20)
        with pytest.raises(RemoteError, match="bytes came"):
            fetch(address, 100, 200, size=4 << 20)  # not held in memory
        monkeypatch.setattr(remote, "_PART", 1 << 20)
        remote.download(address, tmp_path / "a.bin")  # but written to the disk
        assert (tmp_path / "a.bin").stat().st_size == 4 << 20
        server.shutdown()


def test_a_part_of_an_upload_is_repeated_alone(storage, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"1234")
    app, failures = storage.app, [unavailable] * 2

    def failing(environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and failures:
            return failures.pop()(app, environ, start_response)
        return app(environ, start_response)

    monkeypatch.setattr(storage, "app", failing)
    monkeypatch.setattr(remote, "DEFAULT", RetryPolicy(tries=1))
    remote.upload(tmp_path / "a.bin", "s3://videos/up/a.bin")  # by the library itself
    assert names_below("s3://videos/up") == {"a.bin": 4} and not failures


def test_an_upload_has_time_for_its_size():
    assert remote.in_one_piece(10 << 30).request_s > 10_000
    assert remote.in_one_piece(0).total_s < 300
