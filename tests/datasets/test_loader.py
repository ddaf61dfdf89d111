"""The reorder buffer and its workers: order, memory, errors, deaths."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from slowfast.datasets.base import DATASET_REGISTRY, SampleKey, SampleSource
from slowfast.datasets.batch_samplers import EpochBatchSampler
from slowfast.datasets.episodes import DecodedEpisodes, EpisodePlan, build_clip_reader
from slowfast.datasets.episodes import collate_episodes as join_episodes
from slowfast.datasets.fewshot_lists import read_clips
from slowfast.datasets.loader import Loader, construct_loader
from slowfast.datasets.reorder import LoaderOptions
from slowfast.datasets.workers import WorkerTraceback
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.runtime import Runtime, cpu_count
from tests.fewshot import fewshot_cfg

FORK = multiprocessing.get_context("fork")


class Numbers(SampleSource):
    """Clips that consist of their index; ``act(index)`` runs in the worker before."""

    def __init__(self, act=lambda index: None, side=lambda index: 8):
        self.act, self.side = act, side

    def __getitem__(self, key: SampleKey) -> dict:
        self.act(key.index)
        side = self.side(key.index)
        frames = torch.full((2, side, side, 3), key.index % 256, dtype=torch.uint8)
        return {
            "video": frames.movedim(-1, 0),
            "label": key.index,
            "index": key.index,
            "path": str(key.index),
            "score": torch.tensor(key.index / 2),
        }


def loader_of(dataset, length=16, size=4, workers=2, ahead=4, **options) -> Loader:
    batches = EpochBatchSampler(length, size, train=False, seed=0)
    return Loader(dataset, batches, options=LoaderOptions(workers=workers, ahead=ahead, **options))


def memory_of(loader: Loader):
    return loader._reader._buffer._memory


def pids_of(loader: Loader) -> list[int]:
    return loader._reader._buffer.workers.pids


def wait_until(condition, seconds=20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """False also for a process that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_batches(batches, length=16, size=4, side=8) -> None:
    """The batches of :class:`Numbers`, complete, in order, in channels-last memory."""
    assert [n for batch in batches for n in batch.index.tolist()] == list(range(length))
    for batch in batches:
        assert batch.video.shape == (batch.size, 3, 2, side, side)
        assert batch.video.movedim(1, -1).is_contiguous()
        for clip, number in zip(batch.video, batch.index.tolist()):
            assert (clip == number % 256).all()
        assert batch.extra["score"].tolist() == [n / 2 for n in batch.index.tolist()]


def test_a_slow_sample_holds_up_no_other():
    """The first sample ends only when the last of four batches has been read; order is kept."""
    last_read = FORK.Event()

    def act(index: int) -> None:
        if index == 0:
            assert last_read.wait(20)
        if index == 15:
            last_read.set()

    assert_batches(list(loader_of(Numbers(act))))


def test_samples_in_flight_are_bounded():
    read = FORK.Value("i", 0)

    def act(index: int) -> None:
        with read.get_lock():
            read.value += 1

    loader = loader_of(Numbers(act), length=40, ahead=3)
    batches = iter(loader)
    next(batches)
    wait_until(lambda: read.value == 16)  # the batch that was given, and three ahead
    next(batches)
    wait_until(lambda: read.value == 20)
    time.sleep(0.1)
    assert read.value == 20


def test_memory_is_shared_and_used_again():
    """Batches are views of it; it grows with batches in use, not with those that were read."""
    loader = loader_of(Numbers(), length=400, ahead=4)
    sizes = set()
    for number, batch in enumerate(loader):
        if number > 20:
            assert batch.video.untyped_storage().nbytes() >= 4 * 2 * 8 * 8 * 3
            sizes.add(memory_of(loader).size)
        if number == 50:
            views = batch.video.untyped_storage().data_ptr()
            assert batch.video[1:].untyped_storage().data_ptr() == views
    assert len(sizes) == 1 and sizes.pop() <= (1 + 4 + 3) * 4096


def test_a_batch_in_use_is_never_overwritten():
    loader = loader_of(Numbers(), length=256)
    kept = [batch.video[1:2] for batch in loader]  # a part keeps the whole
    assert_batches(list(loader), length=256)
    assert [int(part.amax()) for part in kept] == [n % 256 for n in range(1, 256, 4)]
    assert all((part == part.amax()).all() for part in kept)


def test_a_pass_that_is_left_disturbs_no_other():
    loader = loader_of(Numbers(lambda index: time.sleep(0.001)))
    for _ in range(5):
        first = iter(loader)
        assert_batches([next(first)], length=4)
    assert_batches(list(loader))
    with pytest.raises(RuntimeError, match="another pass"):
        next(first)
    loader.batch_sampler.set_epoch(0, skip=2)
    assert [batch.index[0].item() for batch in loader] == [8, 12]


def test_sizes_that_were_not_expected():
    """Clips larger than their place come through the pipe; others have room to grow."""
    loader = loader_of(Numbers(side=lambda index: 8 * (1 + index)), length=12, size=1)
    for _ in range(2):
        for index, batch in enumerate(loader):
            assert batch.video.shape[-1] == 8 * (1 + index) and (batch.video == index).all()


def test_workers_end_with_their_loader():
    loader = loader_of(Numbers())
    batches = iter(loader)
    next(batches)
    pids = pids_of(loader)
    del loader
    assert all(map(is_alive, pids))  # the iterator still needs them
    assert next(batches).index.tolist() == [4, 5, 6, 7]
    del batches
    assert not any(map(is_alive, pids))


# -- errors and deaths -----------------------------------------------------------------------------


class OddError(Exception):
    """An error that does not survive pickling."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


@pytest.mark.parametrize(
    "error, kind, text",
    [
        (ValueError("wrong"), ValueError, "wrong"),
        (OddError(1, 2), RuntimeError, "OddError: 1 and 2"),
        (OSError(24, "Too many open files"), RunFailure, "loader worker .* failed: OSError"),
        (MemoryError("no more"), RunFailure, "loader worker .* failed: MemoryError: no more"),
        (UserError("what", "to do", "KEY"), UserError, "KEY: what"),
    ],
)
def test_an_error_in_a_worker(error, kind, text):
    """It is raised where its batch is due, with its class; a bug with the worker's traceback."""

    def act(index: int) -> None:
        if index == 6:
            raise error

    batches = iter(loader_of(Numbers(act)))
    assert next(batches).index.tolist() == [0, 1, 2, 3]
    with pytest.raises(kind, match=text) as caught:
        next(batches)
    if not isinstance(error, (UserError, OSError, MemoryError)):
        assert isinstance(caught.value.__cause__, WorkerTraceback)
        assert "in act" in str(caught.value.__cause__) and "in loader worker" in str(
            caught.value.__cause__
        )


def test_what_cannot_be_sent_is_an_error():
    class Odd(Numbers):
        def __getitem__(self, key: SampleKey) -> dict:
            return super().__getitem__(key) | {"odd": lambda: 0}

    with pytest.raises(Exception, match="(?i)pickle"):
        list(loader_of(Odd()))


@pytest.mark.parametrize("busy", [False, True])
def test_a_killed_worker_is_named(busy):
    started = FORK.Event()

    def act(index: int) -> None:
        if busy and index == 9:
            started.set()
            time.sleep(60)

    loader = loader_of(Numbers(act), workers=1)
    batches = iter(loader)
    next(batches)
    assert not busy or started.wait(20)
    (pid,) = pids_of(loader)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: loader._reader._buffer._failure is not None)
    with pytest.raises(RunFailure, match=f"loader worker {pid} died: is killed by signal: Kill"):
        list(batches)
    with pytest.raises(RunFailure, match="died"):  # nor does another pass begin
        list(loader)


def test_a_killed_one_of_two_ends_the_run():
    """Not only when its samples are due: the other goes on and would end in waiting."""
    loader = loader_of(Numbers(), length=4000, size=1)
    batches = iter(loader)
    next(batches)
    os.kill(pids_of(loader)[0], signal.SIGKILL)
    with pytest.raises(RunFailure, match="died"):
        for _ in batches:
            time.sleep(0.001)


def _in_process(target) -> str:
    """What ``target(send)`` sends from a process of its own."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=target, args=(theirs.send,))
    process.start()
    theirs.close()
    try:
        assert ours.poll(60)
        return ours.recv()
    finally:
        process.kill()
        process.join()


def test_too_few_descriptors():
    def starve(send) -> None:
        # The limit is on numbers of descriptors, and the process may have left gaps in them.
        used = set(map(int, os.listdir("/proc/self/fd")))
        limit = [number for number in range(max(used) + 20) if number not in used][12]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        try:
            list(loader_of(Numbers(), workers=8))
        except RunFailure as error:
            send(str(error))

    text = _in_process(starve)
    assert "loader workers cannot be started: Too many open files" in text and "ulimit -n" in text


def test_a_limit_on_the_size_of_files():
    """Then no memory can be shared: clips come through pipes."""

    def starve(send) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        loader = loader_of(Numbers(side=lambda index: 64), length=40)
        assert_batches(list(loader), length=40, side=64)
        send(memory_of(loader) is None)

    assert _in_process(starve) is True


def test_workers_end_when_their_parent_is_killed():
    def begin(send) -> None:
        loader = loader_of(Numbers(lambda index: time.sleep(0.05)), length=10000)
        next(iter(loader))
        send(pids_of(loader))
        signal.pause()

    pids = _in_process(begin)  # kills the process when it has sent them
    wait_until(lambda: not any(map(is_alive, pids)), 10)


def test_a_video_is_not_blamed_for_missing_descriptors(make_cfg):
    dataset = construct_loader(make_cfg({"DATA.ON_ERROR": "skip"}), "train").dataset
    before = dataset[0]["video"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # every number below it is in use
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            dataset[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert dataset[0]["video"].equal(before)


# -- data sets -------------------------------------------------------------------------------------


def equal(a, b) -> bool:
    fields = ("index", "label", "path", "bad")
    same = all(str(getattr(a, name)) == str(getattr(b, name)) for name in fields)
    return same and a.video.equal(b.video) and a.video.stride() == b.video.stride()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_split_is_that_of_one_process(make_cfg, split):
    words = {"AUG.ENABLE": True, "AUG.NUM_SAMPLE": 2, "TEST.BATCH_SIZE": 18}
    one, two = (
        list(construct_loader(make_cfg(words | {"DATA_LOADER.NUM_WORKERS": count}), split))
        for count in (0, 2)
    )
    assert all(equal(a, b) for a, b in zip(one, two, strict=True))


def episodes(folder, split, workers) -> list:
    cfg = fewshot_cfg(folder, {"FEWSHOT.QUERY_CLASSES": "all", "FEWSHOT.TRAIN_EPISODES": 4})
    plan = EpisodePlan.from_cfg(cfg, split, read_clips(cfg, split))
    dataset = DecodedEpisodes(plan, build_clip_reader(cfg, split))
    batches = EpochBatchSampler(4, 1, train=split == "train", seed=0)
    return list(Loader(dataset, batches, join_episodes, LoaderOptions(workers=workers)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_clips_of_an_episode_are_read_one_by_one(compositions, tmp_path, split):
    folder = shutil.copytree(compositions, tmp_path / "set")
    for path in (episodes(folder, split, 0)[0].path[:1], episodes(folder, split, 0)[2].path[-1:]):
        Path(*path).write_bytes(b"")
    one, two = (episodes(folder, split, workers) for workers in (0, 2))
    assert sum(len(batch.bad) for batch in one) >= 2
    assert all(equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(str(a.episode) == str(b.episode) for a, b in zip(one, two))


PLUGIN = """
from slowfast.datasets.base import DATASET_REGISTRY, ListDataset
from slowfast.datasets.moving_shapes import MovingShapes

@DATASET_REGISTRY.register("twice")
class Twice(MovingShapes):
    def describe_item(self, item, index):
        return super().describe_item(item, index) | {"twice": 2 * index}
"""


def test_a_plugin_in_workers_that_know_nothing(make_cfg, tmp_path, monkeypatch):
    """Workers of a forkserver import the plugin before they unpickle its data set."""
    (tmp_path / "twice_plugin.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    # Other tests do not meet the data set.
    monkeypatch.setattr(DATASET_REGISTRY, "_objects", DATASET_REGISTRY._objects.copy())
    words = {
        "IMPORTS": "twice_plugin",
        "TRAIN.DATASET": "twice",
        "DATA_LOADER.NUM_WORKERS": 2,
        "DATA_LOADER.START_METHOD": "forkserver",
    }
    loader = construct_loader(make_cfg(words), "train")
    for batch in loader:
        assert batch.extra["twice"].tolist() == [2 * n for n in batch.index.tolist()]
    pids = pids_of(loader)
    del loader, batch
    assert not any(map(is_alive, pids))


def test_a_data_set_that_cannot_be_sent():
    with pytest.raises(UserError, match=r"START_METHOD: the data set cannot be sent(.|\n)*fork"):
        iter(loader_of(Numbers(), start_method="forkserver"))


def test_number_of_workers(make_cfg):
    def count(value: int, local_world: int = 1) -> int:
        cfg = make_cfg({"DATA_LOADER.NUM_WORKERS": value, "TRAIN.BATCH_SIZE": 1})
        runtime = Runtime(torch.device("cpu"), local_world=local_world)
        return construct_loader(cfg, "train", runtime).num_workers

    assert count(0) == 0 and count(3) == 3
    assert count(99) == 16  # as many as batches
    assert count(-1) == min(max(cpu_count() - 1, 1), 16) and count(-1, 99) == 1
