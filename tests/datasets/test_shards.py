"""Shards: the batches and runs of the list they were made from, a sample by one ranged read."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.datasets import shard_index
from slowfast.datasets.base import SampleKey
from slowfast.datasets.build import build_dataset
from slowfast.datasets.items import Item, ItemList
from slowfast.datasets.lists import read_named_lists
from slowfast.datasets.loader import construct_loader
from slowfast.datasets.probe import check_lists
from slowfast.datasets.shard_index import make_index, parse_index, read_index
from slowfast.datasets.shard_writer import plan_shards, write_shards
from slowfast.datasets.shards import ShardBlockSampler
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.map import Where
from slowfast.utils.remote_file import Extent
from slowfast.video.backends.torchcodec import ON_GPU
from slowfast.video.source import open_video
from tests.storage import unavailable
from tests.utils.test_remote import Quiet

SHARDS = {"TRAIN.DATASET": "shards", "TEST.DATASET": "shards"}
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def sharded(shapes, tmp_path_factory) -> Path:
    """The moving_shapes set in shards of a few videos."""
    folder = tmp_path_factory.mktemp("sharded") / "set"
    files = [str(shapes / f"{split}.csv") for split in SPLITS]
    for name, item_list in read_named_lists(files, str(shapes)).items():
        write_shards(plan_shards(item_list, str(shapes), folder / name, 0.03))
    (folder / "classes.txt").write_text((shapes / "classes.txt").read_text())
    return folder


def tar_of(path: Path, members: dict[str, bytes], form=tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_the_planned_index_is_that_of_the_files(sharded, shapes):
    for split in SPLITS:
        folder = sharded / split
        index = read_index(str(folder))
        assert len(index.shards) > 1
        assert make_index(str(folder), index.shards) == index
        assert index == parse_index((folder / "index.tsv").read_text(), "index")
        listed = [line.split() for line in (shapes / f"{split}.csv").read_text().splitlines()]
        assert [[m.name, m.labels] for m in index.members] == listed
        for member in index.members:
            with open(folder / member.shard, "rb") as file:
                file.seek(member.start)
                assert file.read(member.size) == (shapes / member.name).read_bytes()


def test_webdataset_reads_the_shards(sharded):
    webdataset = pytest.importorskip("webdataset")
    folder = sharded / "train"
    index = read_index(str(folder))
    paths = [str(folder / name) for name in index.shards]
    rows = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [json.loads(row["json"])["path"] for row in rows] == [m.name for m in index.members]
    assert [len(row["mp4"]) for row in rows] == [m.size for m in index.members]


def run(cfg) -> Path:
    launch(cfg, run_job)
    return Path(cfg.OUTPUT_DIR)


def figures(out: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    return [(r["_type"], r.get("loss"), r.get("top1_err"), r.get("bad_items")) for r in rows]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(out / "checkpoints/checkpoint_epoch_00002.pyth")["model_state"]


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_run_is_that_of_the_list(make_cfg, storage, sharded, tmp_path, place):
    """Also with faults, and when it goes on from the middle of an epoch."""
    address = storage.put_folder(sharded) if place == "there" else str(sharded)
    listed = run(make_cfg({"OUTPUT_DIR": str(tmp_path / "list")}))
    words = SHARDS | {"DATA.PATH_TO_DATA_DIR": address, "DATA_LOADER.NUM_WORKERS": 2}
    storage.faults[:] = [None] * 40 + [unavailable]
    whole = run(make_cfg(words | {"OUTPUT_DIR": str(tmp_path / "whole")}))
    assert figures(whole) == figures(listed)
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(listed).items())
    steps = {"TRAIN.CHECKPOINT_STEPS": 3, "OUTPUT_DIR": str(tmp_path / "part")}
    part = run(make_cfg(words | steps | {"TEST.ENABLE": False}))
    (part / "checkpoints/checkpoint_epoch_00002.pyth").unlink()
    left = sorted(p.name for p in (part / "checkpoints").iterdir())
    run(make_cfg(words | steps))
    assert left and all(torch.equal(v, weights(part)[k]) for k, v in weights(listed).items())


def test_a_sample_is_one_ranged_read(make_cfg, storage, sharded):
    address = storage.put_folder(sharded)
    there = build_dataset(make_cfg(SHARDS | {"DATA.PATH_TO_DATA_DIR": address}), "train")
    here = build_dataset(make_cfg(), "train")
    assert there.item_list.fingerprint == here.item_list.fingerprint
    assert there.class_names == here.class_names
    for number in (0, 5, 15):
        storage.requests.clear()
        sample = there[SampleKey(1, number)]
        extent = there.items[number].extent
        (request,) = storage.requests
        assert request[2] == f"bytes={extent.start}-{extent.start + extent.size - 1}"
        assert torch.equal(sample["video"], here[SampleKey(1, number)]["video"])
        assert sample["label"] == here[SampleKey(1, number)]["label"]


def test_shards_on_a_web_server(make_cfg, sharded, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path))
    pytest.importorskip("aiohttp")
    here = build_dataset(make_cfg(), "train")
    handler = functools.partial(Quiet, directory=str(sharded))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        words = SHARDS | {"DATA.PATH_TO_DATA_DIR": address}
        there = build_dataset(make_cfg(words | {"DATA.COPY_SHARDS": 9}), "train")
        key = SampleKey(0, 5)
        assert torch.equal(there[key]["video"], here[key]["video"])
        with pytest.raises(UserError, match="a web server lists no shards"):
            build_dataset(make_cfg(words | {"DATA.TRAIN_LIST": "none"}), "train")
        server.shutdown()


def test_broken_videos_are_named(make_cfg, storage, sharded, tmp_path):
    index = read_index(str(sharded / "train"))
    member = index.members[3]
    copy = tmp_path / "set"
    for name in ("train", "val"):
        for path in (sharded / name).iterdir():
            (copy / name).mkdir(parents=True, exist_ok=True)
            (copy / name / path.name).write_bytes(path.read_bytes())
    with open(copy / "train" / member.shard, "r+b") as file:
        file.seek(member.start)
        file.write(bytes(member.size))
    cfg = make_cfg(SHARDS | {"DATA.PATH_TO_DATA_DIR": str(copy)})
    dataset = build_dataset(cfg, "train")
    bad = dataset[SampleKey(0, 3)]
    assert bad.path == str(copy / "train" / member.shard / member.name)
    assert bad.line == len(index.shards) + 2 + 3 and "not a readable video" in bad.cause
    os.truncate(copy / "train" / member.shard, member.start + 10)
    with pytest.raises(VideoError, match="ends before this part"):
        dataset.reader.read(dataset.items[3], 0, 3)
    with pytest.raises(UserError, match="is of other shards"):
        build_dataset(cfg, "train")
    report = check_lists(
        {
            "train": build_dataset(
                make_cfg(SHARDS | {"DATA.PATH_TO_DATA_DIR": str(sharded)}), "train"
            ).item_list
        },
        where=Where(workers=1),
    )
    assert report.is_clean and report.summary()["lists"]["train"]["frames"]["min"] == 24


def test_decoding_on_the_gpu_is_refused(sharded):
    index = read_index(str(sharded / "val"))
    member = index.members[0]
    extent = Extent(str(sharded / "val" / member.shard), member.start, member.size)
    assert open_video("a.mp4", extent=extent).num_frames == 24
    with pytest.raises(UserError, match="decoded by the CPU"):
        open_video("a.mp4", ON_GPU, extent=extent)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_collection_without_an_index(make_cfg, storage, video, tmp_path, form):
    """WebDataset's layout as others write it: folders, long names, labels in either form."""
    data = video.read_bytes()
    long = "a" * 80 + "/" + "b" * 70 if form != tarfile.GNU_FORMAT else "a" * 150
    tar_of(
        tmp_path / f"others{form}/train/x-0.tar",
        {
            "one.mp4": data,
            "one.json": b'{"label": 2}',
            "deep/two.txt": b"a text",
            "deep/two.cls": b"1\n",
            "deep/two.left.mp4": data,
            "only.txt": b"no video",
        },
        form,
    )
    tar_of(
        tmp_path / f"others{form}/train/x-1.tar",
        {f"{long}.json": b'{"label": 0}', f"{long}.mp4": data},
        form,
    )
    words = SHARDS | {"DATA.PATH_TO_DATA_DIR": str(tmp_path / f"others{form}")}
    dataset = build_dataset(make_cfg(words), "train")
    assert dataset.labels == [2, 1, 0] and (tmp_path / f"others{form}/train/index.tsv").is_file()
    assert [Path(item.path).name for item in dataset.items[:2]] == ["one.mp4", "two.left.mp4"]
    assert all(torch.is_tensor(dataset[SampleKey(0, n)]["video"]) for n in range(3))
    (tmp_path / f"others{form}/train/index.tsv").unlink()
    address = storage.put_folder(tmp_path / f"others{form}")
    remote = build_dataset(make_cfg(words | {"DATA.PATH_TO_DATA_DIR": address}), "train")
    assert [i.extent[1:] for i in remote.items] == [i.extent[1:] for i in dataset.items]
    storage.requests.clear()
    build_dataset(make_cfg(words | {"DATA.PATH_TO_DATA_DIR": address}), "train")
    assert not [span for _, path, span in storage.requests if path.endswith(".tar") and span]


def test_several_labels(make_cfg, video, tmp_path):
    item_list = tmp_path / "train.csv"
    item_list.write_text(f"{video.name} 0,2\n{video.name} 1\n{video.name} 3\n")
    words = {"DATA.MULTI_LABEL": True, "MODEL.LOSS_FUNC": "bce_logit", "MODEL.HEAD_ACT": "sigmoid"}
    words |= {"DATA.PATH_TO_DATA_DIR": str(tmp_path), "DATA.PATH_PREFIX": str(video.parent)}
    words |= {"TRAIN.DATASET": "kinetics"}
    listed = build_dataset(make_cfg(words), "train")
    write_shards(plan_shards(listed.item_list, str(video.parent), tmp_path / "set/train", 1))
    words |= SHARDS | {"DATA.PATH_TO_DATA_DIR": str(tmp_path / "set")}
    dataset = build_dataset(make_cfg(words), "train")
    assert [i.labels for i in dataset.items] == [(0, 2), (1,), (3,)]
    with pytest.raises(UserError, match="DATA.MULTI_LABEL"):
        build_dataset(
            make_cfg(
                words
                | {
                    "DATA.MULTI_LABEL": False,
                    "MODEL.LOSS_FUNC": "cross_entropy",
                    "MODEL.HEAD_ACT": "softmax",
                }
            ),
            "train",
        )


@pytest.mark.parametrize(
    "members, part",
    [
        ({"a.mp4": b"x"}, "a.mp4 has no label"),
        ({"a.mp4": b"x", "a.json": b"{"}, "has no label"),
        ({"a.mp4": b"x", "a.json": b'{"label": true}'}, "has no label"),
        ({"a.mp4": b"x", "a.json": b'{"label": -1}'}, "has no label"),
        ({"a.txt": b"x"}, "hold no videos"),
    ],
)
def test_what_is_no_collection(make_cfg, tmp_path, members, part):
    tar_of(tmp_path / "train/0.tar", members)
    with pytest.raises(UserError, match=part):
        build_dataset(make_cfg(SHARDS | {"DATA.PATH_TO_DATA_DIR": str(tmp_path)}), "train")


def test_damaged_shards_and_folders_without_any(make_cfg, tmp_path):
    words = SHARDS | {"DATA.PATH_TO_DATA_DIR": str(tmp_path)}
    with pytest.raises(UserError, match="holds no shards"):
        build_dataset(make_cfg(words), "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/0.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(UserError, match="no readable tar file"):
        build_dataset(make_cfg(words), "train")


@pytest.mark.parametrize(
    "line",
    [
        "0.tar\t0\t99999999\t0\ta.mp4",  # past the end
        "0.tar\t-1\t5\t0\ta.mp4",
        "0.tar\t5\t0\t0\ta.mp4",
        "../1.tar\t0\t5\t0\ta.mp4",
        "# 5\t../../etc/passwd",
        "# 5\t/etc/passwd",
        "# 5\ts3://elsewhere/a.tar",
        "0.tar\t0\t5\t0",
        "0.tar\t0\tx\t0\ta.mp4",
        "0.tar\t0\t5\t0\ta\x00.mp4",
    ],
)
def test_an_index_leads_nowhere_else(line):
    head = f"{shard_index._HEAD}\n# 100\t0.tar\n"
    parse_index(f"{head}0.tar\t0\t5\t0\ta.mp4\n", "index.tsv")
    with pytest.raises(UserError, match="index.tsv:3"):
        parse_index(f"{head}{line}\n", "index.tsv")


def test_lists_that_cannot_become_shards(video, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    names = ["absent.mp4", "folder.mp4", "empty.mp4", "a.txt", "large.mp4"]
    (tmp_path / "a.txt").write_text("x")
    with open(tmp_path / "large.mp4", "wb") as file:
        file.truncate(8 << 30)  # it takes no room on the disk
    items = [Item(str(tmp_path / name), 0, 0, n) for n, name in enumerate(names, 1)]
    with pytest.raises(UserError) as error:
        plan_shards(ItemList(items, "l.csv"), "", tmp_path / "out", 1)
    text = str(error.value)
    assert all(f"l.csv:{n}" in text for n in range(1, 6)) and not (tmp_path / "out").exists()


def test_shards_that_are_there_stay(shapes, tmp_path):
    lists = read_named_lists([str(shapes / "val.csv")], str(shapes))
    plan = plan_shards(lists["val"], str(shapes), tmp_path, 0.03)
    write_shards(plan)
    first = {path: (path.stat().st_ino, path.read_bytes()) for path in plan.files()}
    shards = [path for path in plan.files() if path.suffix == ".tar"]
    shards[0].unlink()
    write_shards(plan)
    assert all(path.read_bytes() == content for path, (_, content) in first.items())
    assert shards[1].stat().st_ino == first[shards[1]][0]
    (tmp_path / "zzz.tar").touch()
    with pytest.raises(UserError, match="other shards"):
        write_shards(plan)


@pytest.mark.parametrize("change", ["order", "labels", "source"])
def test_shards_of_the_same_size_and_other_content_are_written_anew(tmp_path, change):
    for name in ("a", "b", "other/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.mp4").write_bytes(name[-1].encode() * 99 + name[:1].encode())
        os.utime(tmp_path / f"{name}.mp4", (1, 1))

    def write(names, labels, below=tmp_path):
        items = [Item(str(below / f"{n}.mp4"), label, 0, 1) for n, label in zip(names, labels)]
        write_shards(plan_shards(ItemList(items, "l.csv"), str(below), tmp_path / "out", 1))
        return (tmp_path / "out/000000.tar").read_bytes()

    first = write("ab" if change != "source" else "a", [0, 1])
    if change == "source":
        again = write("a", [0], tmp_path / "other")
    else:
        again = write(*(("ba", [0, 1]) if change == "order" else ("ab", [1, 0])))
    assert len(first) == len(again) and first != again
    index = read_index(str(tmp_path / "out"))
    assert make_index(str(tmp_path / "out"), index.shards) == index


@pytest.mark.parametrize("is_remote", [False, True])
def test_shards_that_are_replaced_by_others_of_the_same_size(storage, tmp_path, is_remote):
    folder = tmp_path / f"replaced{is_remote}"

    def labels_of(label: bytes) -> list[str]:
        tar_of(folder / "0.tar", {"a.mp4": b"v" * 9, "a.cls": label})
        if is_remote:
            return [m.labels for m in read_index(storage.put_folder(folder)).members]
        os.utime(folder / "0.tar", (time.time() + 9,) * 2)  # written after the index
        return [m.labels for m in read_index(str(folder)).members]

    assert labels_of(b"1") == ["1"] and labels_of(b"2") == ["2"]


def test_heads_at_the_border_of_a_fetched_block(storage, tmp_path):
    facts = json.dumps({"label": 1, "text": "x" * 1200}).encode()
    members = {}
    for number in range(400):  # a json across every border of 256 KB
        members |= {f"{number:03d}.mp4": b"v" * 700, f"{number:03d}.json": facts}
    tar_of(tmp_path / "set/0.tar", members)
    address = storage.put_folder(tmp_path / "set")
    sizes = {"0.tar": (tmp_path / "set/0.tar").stat().st_size}
    assert make_index(address, sizes) == make_index(str(tmp_path / "set"), sizes)


# -- blocks of shards ------------------------------------------------------------------------------


def sampler(shards: list[int], block: int, epoch: int = 0, **options) -> ShardBlockSampler:
    made = ShardBlockSampler(len(shards), 2, train=True, seed=3, **options)
    made._shards, made._block = np.array(shards), block
    made.set_epoch(epoch)
    return made


def test_blocks_of_shards():
    shards = np.repeat(np.arange(10), 5).tolist()
    orders = [sampler(shards, 2, epoch).order() for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(50))
        blocks = [{shards[n] for n in order[start : start + 10]} for start in range(0, 50, 10)]
        assert all(len(block) == 2 for block in blocks)  # ten samples are of two shards
        runs = sum(shards[a] != shards[b] for a, b in zip(order, order[1:]))
        assert runs > 15  # and mixed
    assert len({tuple(order) for order in orders}) == 3
    assert sampler(shards, 2).order() == orders[0]
    halves = [list(sampler(shards, 2, rank=rank, world=2)) for rank in range(2)]
    flat = [key.index for pair in zip(*halves) for batch in pair for key in batch]
    assert flat == orders[0][: len(flat)] and len(flat) == 48


def test_blocks_by_configuration(make_cfg, sharded):
    words = SHARDS | {"DATA.PATH_TO_DATA_DIR": str(sharded), "DATA.BATCH_SAMPLER": "shard_blocks"}
    loader = construct_loader(make_cfg(words | {"DATA.SHARD_BLOCK": 1}), "train")
    places = [loader.dataset.items[i].place for i in loader.batch_sampler.order()]
    changes = sum(a != b for a, b in zip(places, places[1:]))
    assert changes == len(set(places)) - 1


def test_whole_shards_are_copied(make_cfg, storage, sharded):
    address = storage.put_folder(sharded)
    words = SHARDS | {"DATA.PATH_TO_DATA_DIR": address, "DATA.COPY_SHARDS": 4}
    words |= {"DATA.BATCH_SAMPLER": "shard_blocks", "DATA.SHARD_BLOCK": 2}
    here = {"DATA.PATH_TO_DATA_DIR": str(sharded), "DATA.COPY_SHARDS": 0}

    for wrong, part in (
        (
            {"DATA.BATCH_SAMPLER": "shuffle", "DATA.COPY_SHARDS": 1},
            "every sample would fetch a whole shard",
        ),
        ({"DATA.COPY_SHARDS": 1}, "fewer than two blocks"),
    ):
        with pytest.raises(UserError, match=part):
            build_dataset(make_cfg(words | wrong), "train")

    def batches(extra):
        loader = construct_loader(make_cfg(words | extra), "train")
        return [(batch.video, batch.index) for batch in loader]

    storage.requests.clear()
    remote = batches({"DATA_LOADER.NUM_WORKERS": 2})
    spans = [path for _, path, span in storage.requests if path.endswith(".tar") and span]
    assert len(spans) == len(set(spans)) == len(read_index(str(sharded / "train")).shards)
    for (one, first), (other, second) in zip(remote, batches(here)):
        assert torch.equal(one, other) and torch.equal(first, second)
