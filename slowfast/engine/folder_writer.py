"""Checkpoints as folders, which all processes write together (``torch.distributed.checkpoint``),
while the training goes on where that is wanted."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import secrets
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from slowfast.models.weights.folder import HEAD, SUFFIX, describe_file, divide, size_of, with_files
from slowfast.models.weights.folder_index import INDEX
from slowfast.models.weights.read import read_checkpoint
from slowfast.models.weights.write import write_archive
from slowfast.utils.distributed import gather_objects, is_active
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import failure_of, make_dirs, replace_folder, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.paths import prepare_outputs
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)

_KEY = "TRAIN.CHECKPOINT_FORMAT"


class FolderWriter:
    """Writes one checkpoint at a time, in a thread of each process.

    All processes call :meth:`begin` and :meth:`finish` alike. The threads talk to each other over
    connections of their own. A folder gets its name when everything in it is complete and on the
    disk; ``completed`` is then called on rank 0, by the thread.
    """

    def __init__(
        self, runtime: Runtime, timeout_s: float, completed: Callable[[Sequence[Path]], None]
    ):
        self._runtime, self._timeout_s, self._completed = runtime, timeout_s, completed
        self._group: dist.ProcessGroup | None = None
        self._thread: threading.Thread | None = None
        self._paths: list[Path] = []
        self._failure: Exception | None = None
        # One process alone is no mistake here.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable")

    def begin(self, paths: Sequence[Path], content: dict[str, Any], copied: bool) -> None:
        """Start to write ``content``, of which each process has its share, as each of ``paths``.

        ``copied``: the training may change tensors from now on. UserError on all processes if the
        folder cannot be created on rank 0.
        """
        tensors, head = divide(content)
        folder = self._unfinished(paths[0])
        if is_active() and self._group is None:
            limit = datetime.timedelta(seconds=self._timeout_s)
            self._group = dist.new_group(backend="gloo", timeout=limit)
        if copied:
            tensors = BlockingAsyncStager().stage(tensors)
        self._paths, self._failure = list(paths), None
        self._thread = threading.Thread(
            target=self._run, args=(folder, tensors, head), name="checkpoint", daemon=True
        )
        self._thread.start()

    def finish(self) -> list[Path]:
        """Wait until the checkpoint that was begun is complete; gives its paths, none if there was
        none. The failure of any process is raised on all of them."""
        if self._thread is None:
            return []
        self.wait()
        self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self._paths

    def wait(self) -> None:
        """Wait for the thread, whatever comes of it."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Wait for the thread where the run ends with another error, and say what failed."""
        self.wait()
        if self._failure is not None:
            logger.error("the last checkpoint was not written: %s", self._failure)

    def _unfinished(self, path: Path) -> Path:
        """The folder in which all processes write, on all of them."""
        folder, failure = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"), None
        if self._runtime.is_main:
            try:
                make_dirs(folder, "OUTPUT_DIR")
            except UserError as error:
                failure = error
        folder, failure = gather_objects((folder, failure))[0]
        if failure:
            raise failure
        return folder

    # -- the thread ------------------------------------------------------------------------------

    def _run(self, folder: Path, tensors: dict[str, Any], head: dict[str, Any]) -> None:
        self._runtime.enter_thread()
        try:
            self._write(folder, tensors, head)
        except Exception as error:  # noqa: BLE001 - finish() raises it
            self._failure = error
        finally:
            if self._runtime.is_main:
                shutil.rmtree(folder, ignore_errors=True)

    def _write(self, folder: Path, tensors: dict[str, Any], head: dict[str, Any]) -> None:
        written = self._agree(lambda: self._write_own(folder, tensors))
        files = {name: facts for own in written for name, facts in own.items()}
        self._agree(lambda: self._complete(folder, head, files) if self._runtime.is_main else None)

    def _agree(self, work: Callable[[], Any]) -> list[Any]:
        """What ``work`` gives on each rank; its failure on any of them is that of all."""
        result, failure = None, None
        try:
            result = work()
        except (UserError, OSError) as error:
            failure = error if isinstance(error, UserError) else failure_of(error, action="write")
        ranks = gather_objects((result, failure), self._group)
        failures = [failure for _, failure in ranks if failure]
        if failures:
            raise failures[0]
        return [result for result, _ in ranks]

    def _write_own(self, folder: Path, tensors: dict[str, Any]) -> dict[str, list[Any]]:
        """Write the share of this process; its files, and on rank 0 the index."""
        files = _Files()
        writer = dcp.FileSystemWriter(folder)
        writer.fs = files
        with _explained(files, folder):
            dcp.save(
                tensors, storage_writer=writer, process_group=self._group, no_dist=not is_active()
            )
        names = [*files.names, *([INDEX] if self._runtime.is_main else [])]
        return {name: describe_file(folder / name) for name in names if name != f"{INDEX}.tmp"}

    def _complete(self, folder: Path, head: dict[str, Any], files: dict[str, list[Any]]) -> None:
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise RunFailure(
                f"{missing[0]}, which another process has written, is not in {folder.parent}",
                "OUTPUT_DIR must be a folder that all machines share; or set it to file",
                _KEY,
            )
        write_archive(with_files(head, files), folder / HEAD)
        for path in self._paths:
            replace_folder(path, lambda target: _link_files(folder, target))
        self._completed(self._paths)


def repack(path: str | Path, target: str | Path) -> dict[str, Any]:
    """Write all that the checkpoint of a run holds in the other form, a file or a folder; gives
    facts about it.

    UserError if it is no checkpoint of a run, or ``target`` is of the same form.
    """
    source, target = Path(path), Path(target)
    ending = ".pyth" if source.is_dir() else SUFFIX
    if target.suffix != ending:
        form = "a file" if source.is_dir() else "a folder"
        raise UserError(
            f"{target} is no name for {path} as {form}", f"a name that ends in {ending}", "OUT"
        )
    if target.exists() and ending == SUFFIX:
        raise UserError(f"{target} exists", "name another folder, or remove it", "OUT")
    content = read_checkpoint(path, "FILE")
    if "sampler_state" not in content:
        raise UserError(
            f"{path} holds weights, and no state of a run", "strip gives a file of them", "FILE"
        )
    make_dirs(target.parent)
    if ending == SUFFIX:
        writer = FolderWriter(Runtime(torch.device("cpu")), 0.0, lambda _: None)
        writer.begin([target], content, copied=False)
        writer.finish()
    else:
        prepare_outputs([target], [path])
        write_atomic(target, lambda temporary: write_archive(content, temporary))
    return {"file": str(target), "bytes": size_of(target)}


def _link_files(folder: Path, target: Path) -> None:
    """The files of ``folder`` in ``target``, too; copies where the file system has no links."""
    for name in os.listdir(folder):
        try:
            os.link(folder / name, target / name)
        except OSError:
            shutil.copyfile(folder / name, target / name)


class _Files(FileSystem):
    """Files that keep the error of a failed write, which ``torch.save`` hides, and their names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.error: OSError | None = None

    @contextlib.contextmanager
    def create_stream(self, path: str | os.PathLike, mode: str) -> Iterator[io.BufferedWriter]:
        self.names.append(Path(path).name)
        with io.BufferedWriter(_File(self, path)) as stream:
            yield stream


class _File(io.FileIO):
    def __init__(self, files: _Files, path: str | os.PathLike):
        super().__init__(path, "wb")
        self._files = files

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._files.error = error
            raise


@contextlib.contextmanager
def _explained(files: _Files, folder: Path) -> Iterator[None]:
    """RunFailure with the cause on the process that could not write; on the others they say that
    one could not."""
    try:
        yield
    except dcp.CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        found = files.error or next((c for c in causes if isinstance(c, OSError)), None)
        if found is not None:
            raise failure_of(found, folder, action="write") from error
        ranks = ", ".join(map(str, error.failures))
        raise RunFailure(f"rank {ranks} cannot write {folder}: {causes[0]}") from error
