"""Connections between the processes of a run, by which the end of one is noticed at once.

Collectives do not tell: with NCCL the main thread waits for the GPU, and the GPU for the lost
process, until a timeout. But the kernel closes the connections of a process that ends, however it
ends, and asks other machines for signs of life. None of it depends on what processes compute.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import selectors
import socket
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence

import torch.distributed as dist

from slowfast.utils.errors import RunFailure
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_KEY = "slowfast/watch"
_CONNECT_TIMEOUT_S = 10.0
# Seconds in which the main thread may end by itself: after a process was killed, and after one
# has ended with an error, which is often an error of all.
_GRACE_KILLED_S, _GRACE_FAILED_S = 3.0, 10.0
_REASON_LENGTH = 300
_BYE, _FAILED, _KILLED = "bye", "failed", "killed"
# A machine that does not answer counts as lost after 5 + 3 * 3 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 14000}


def lost_ranks_failure(ranks: Sequence[int], world: int, how: str) -> RunFailure:
    """The failure of a run whose processes ``ranks`` do not answer; ``how`` it was noticed."""
    names = ", ".join(map(str, ranks)) if ranks else "a"
    return RunFailure(
        f"rank {names} of {world} stopped answering ({how})",
        "look at its own messages (stdout_rank<n>.log) and at the memory of its machine; "
        "the same command goes on from the last checkpoint",
    )


class RankWatch:
    """Ends this process with exit code 1, and says why, soon after the process of another rank has
    ended before its time.

    Rank 0 holds a connection to each other rank and passes the news on. :meth:`leaving` announces
    that this process is going to end. Without a way to rank 0 there is a warning and no watch.
    """

    def __init__(self, rank: int, world: int, store: dist.Store, hosts: Sequence[str]):
        self.rank, self.world = rank, world
        self.lost: list[int] = []
        self.reasons: list[str] = []  # what ranks that failed have said
        self._is_over = False
        self._gone: set[int] = set()  # ranks whose end is no news any more
        self._peers: dict[socket.socket, int] = {}  # connections and their ranks
        self._listener: socket.socket | None = None
        if rank == 0:
            self._token = secrets.token_hex(8)
            self._listener = socket.create_server(("", 0), backlog=world)
            store.set(_KEY, f"{self._listener.getsockname()[1]} {self._token}")
        else:
            port, self._token = store.get(_KEY).decode().split()
            connection = _connect(hosts, int(port))
            if connection is None:
                return
            _send(connection, f"{self._token} {rank}")
            self._peers[connection] = 0
        _close_in_forked_processes(self)
        threading.Thread(target=self._listen, name="rank watch", daemon=True).start()

    # -- this process ----------------------------------------------------------------------------

    def leaving(self, error: BaseException | None = None) -> None:
        """Tell the others that this process is about to end: in order, like all of them, or because
        of an ``error``."""
        reason = str(error).strip().partition("\n")[0][:_REASON_LENGTH]
        message = f"{_BYE} {self.rank}" if error is None else f"{_FAILED} {self.rank} {reason}"
        for connection in list(self._peers):
            _send(connection, message)

    def close(self) -> None:
        """Watch no longer, after :meth:`leaving`."""
        self._is_over = True
        for connection in self.sockets():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closes it
        self._peers.clear()

    def sockets(self) -> list[socket.socket]:
        """All open connections."""
        return [*self._peers, *([self._listener] if self._listener else [])]

    # -- the others ------------------------------------------------------------------------------

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for connection in self.sockets():
                selector.register(connection, selectors.EVENT_READ)
            while not self._is_over and selector.get_map():
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif not self._read(key.fileobj):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # closed meanwhile
            selector.unregister(self._listener)
            return
        _keep_alive(connection)
        connection.settimeout(_CONNECT_TIMEOUT_S)
        words = next(_messages(connection), [])
        if len(words) == 2 and words[0] == self._token:
            self._peers[connection] = int(words[1])
            selector.register(connection, selectors.EVENT_READ)
        else:  # not one of us
            connection.close()

    def _read(self, connection: socket.socket) -> bool:
        """Take in what a connection brings; False at its end."""
        messages = list(_messages(connection))
        for what, rank, *reason in messages:
            self._handle(what, int(rank), " ".join(reason))
        if not messages and connection in self._peers:
            rank = self._peers.pop(connection)
            if rank not in self._gone:
                self._handle(_KILLED, rank)
        return bool(messages)

    def _handle(self, what: str, rank: int, reason: str = "") -> None:
        if self._is_over:
            return
        self._gone.add(rank)
        if self.rank == 0 and what != _BYE:
            for connection, peer in list(self._peers.items()):
                if peer != rank:
                    _send(connection, f"{what} {rank} {reason}")
        if what == _BYE or self.lost:
            return
        self.lost.append(rank)
        if reason:
            self.reasons.append(f"rank {rank} of {self.world} failed: {reason}")
        if what == _KILLED:
            logger.error("%s", self._failure().problems[0].message)
        grace = _GRACE_KILLED_S if what == _KILLED else _GRACE_FAILED_S
        timer = threading.Timer(grace, self._end)
        timer.daemon = True
        timer.start()

    def _failure(self) -> RunFailure:
        return lost_ranks_failure(self.lost, self.world, f"noticed by rank {self.rank}")

    def _end(self) -> None:
        """End the process, whose main thread may wait for a GPU for ever."""
        if self._is_over:
            return
        failure = self._failure()
        sys.stderr.write(f"error: {failure}\n")
        sys.stderr.flush()
        logger.error("%s", failure)
        for child in multiprocessing.active_children():  # loader workers
            child.terminate()
        os._exit(failure.exit_code)


# -- connections ---------------------------------------------------------------------------------


def _connect(hosts: Sequence[str], port: int) -> socket.socket | None:
    reason = "no address"
    for host in dict.fromkeys(hosts):
        try:
            connection = socket.create_connection((host, port), _CONNECT_TIMEOUT_S)
        except OSError as error:
            reason = f"{host}:{port}: {error}"
            continue
        connection.settimeout(None)
        _keep_alive(connection)
        return connection
    logger.warning(
        "rank 0 cannot be watched (%s): if a process is lost, DIST.TIMEOUT has to pass", reason
    )
    return None


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on all systems
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(connection: socket.socket, message: str) -> None:
    with contextlib.suppress(OSError):  # its end is noticed where it is read
        connection.sendall(f"{message}\n".encode())


def _messages(connection: socket.socket) -> Iterator[list[str]]:
    """The words of each message that has come; none if the connection has ended. Messages are
    shorter than any packet."""
    try:
        data = connection.recv(4096)
    except OSError:
        return
    for line in data.decode(errors="replace").splitlines():
        yield line.split()


def _close_in_forked_processes(watch: RankWatch) -> None:
    """A loader worker would keep the connections of its process open after that has been killed."""
    reference = weakref.ref(watch)

    def close() -> None:
        watch = reference()
        for connection in watch.sockets() if watch is not None else ():
            connection.close()

    os.register_at_fork(after_in_child=close)
