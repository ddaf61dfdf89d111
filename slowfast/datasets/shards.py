"""``shards``: a data set in tar files, read by an index: a sample is one ranged read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slowfast.config.node import CfgNode
from slowfast.datasets.base import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.batch_samplers import BATCH_SAMPLER_REGISTRY, EpochBatchSampler
from slowfast.datasets.items import Item, ItemList
from slowfast.datasets.lists import ONE_LABEL
from slowfast.datasets.multi_label import MULTI_LABEL_FORM
from slowfast.datasets.shard_index import NAME, read_index
from slowfast.utils.addresses import in_folder, is_address, join
from slowfast.utils.errors import UserError
from slowfast.utils.remote_file import Extent


@DATASET_REGISTRY.register("shards")
class Shards(VideoDataset):
    """``<PATH_TO_DATA_DIR>/{train,val,test}/*.tar``, in WebDataset's layout (tools/make_shards.py).

    Samples are numbered in the order of the index: batches are those of the list from which the
    shards were made. DATA.TRAIN_LIST and its like name another folder.
    """

    may_be_multi_label = True
    reads_remote_lists = True
    videos_below = "PATH_TO_DATA_DIR"

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        data = cfg.DATA
        if not data.PATH_TO_DATA_DIR:
            remedy = "name the folder that holds train/*.tar (tools/make_shards.py)"
            raise UserError("is not set", remedy, "DATA.PATH_TO_DATA_DIR")
        folder = str(in_folder(data.PATH_TO_DATA_DIR, data[f"{split.upper()}_LIST"] or split))
        form = MULTI_LABEL_FORM if data.MULTI_LABEL else ONE_LABEL
        index = read_index(folder)
        if split == "train":
            _check_copies(cfg, folder, len(index.shards))
        files = {name: join(folder, name) for name in index.shards}
        items: list[Item] = []
        source = join(folder, NAME)
        first = len(index.shards) + 2  # line of the first video
        for line, member in enumerate(index.members, first):
            file = files[member.shard]
            try:
                item = form.item(f"{file}/{member.name}", member.labels, 0, line)
            except ValueError as error:
                problem = f"{error}: {member.labels!r}"
                remedy = "videos with several labels need DATA.MULTI_LABEL True"
                raise UserError(problem, remedy, f"{source}:{line}") from None
            items.append(replace(item, extent=Extent(file, member.start, member.size)))
        return ItemList(items, source)


def _check_copies(cfg: CfgNode, folder: str, shards: int) -> None:
    """UserError if training would fetch whole shards for a few samples each, again and again."""
    data = cfg.DATA
    if not data.COPY_SHARDS or not is_address(folder) or shards <= data.COPY_SHARDS:
        return
    what = f"of {shards} shards, {data.COPY_SHARDS} are kept"
    if not BATCH_SAMPLER_REGISTRY.get(data.BATCH_SAMPLER).keeps_to_shards:
        raise UserError(
            f"{what}, and DATA.BATCH_SAMPLER {data.BATCH_SAMPLER} reads from all of them: nearly "
            "every sample would fetch a whole shard",
            f"set DATA.BATCH_SAMPLER shard_blocks, or COPY_SHARDS {shards} or 0",
            "DATA.COPY_SHARDS",
        )
    needed = min(2 * data.SHARD_BLOCK, shards)
    if data.BATCH_SAMPLER == "shard_blocks" and needed > data.COPY_SHARDS:
        raise UserError(
            f"{what}, fewer than two blocks of DATA.SHARD_BLOCK {data.SHARD_BLOCK}",
            f"set it {needed}, or SHARD_BLOCK {max(data.COPY_SHARDS // 2, 1)}",
            "DATA.COPY_SHARDS",
        )


@BATCH_SAMPLER_REGISTRY.register("shard_blocks")
class ShardBlockSampler(EpochBatchSampler):
    """Samples in an order that keeps to a few shards at a time: shards in random order, cut into
    blocks of DATA.SHARD_BLOCK, and the samples of each block in random order.

    For storage that is slow where every sample comes from another file. Each video once per epoch;
    neighbouring batches resemble each other more than those of ``shuffle`` if the shards do.
    """

    keeps_to_shards = True

    def configure(self, cfg: CfgNode, dataset: VideoDataset) -> None:
        numbers = {}
        places = (item.place for item in dataset.items)
        self._shards = np.array([numbers.setdefault(place, len(numbers)) for place in places])
        self._block = cfg.DATA.SHARD_BLOCK

    def train_order(self, rng: np.random.Generator) -> list[int]:
        order = rng.permutation(self._shards.max() + 1)
        rank = np.empty_like(order)  # of each shard in the order
        rank[order] = np.arange(len(order))
        blocks = rank[self._shards] // self._block
        shuffled = rng.permutation(self.length)
        return shuffled[np.argsort(blocks[shuffled], kind="stable")].tolist()
