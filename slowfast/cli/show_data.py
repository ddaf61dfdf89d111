"""Draw what the network sees: the clips of the first batches after all augmentation, as a PNG."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from slowfast.cli.options import add_overrides, override_words

if TYPE_CHECKING:
    from slowfast.config.node import CfgNode

EXAMPLES = (
    "example: {prog} --cfg configs/quickstart/stfm.yaml --out sheet.png "
    "DATA.PATH_TO_DATA_DIR data/moving_shapes_8"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--cfg", required=True, help="configuration file")
    parser.add_argument("--split", default="train", choices=("train", "val", "test"))
    parser.add_argument("--videos", type=int, default=8, help="how many (8)")
    parser.add_argument("--columns", type=int, default=8, help="frames of a clip shown (8)")
    parser.add_argument("--out", default="data_sheet.png", help="picture to write")
    add_overrides(parser)


def _refuse_sources(cfg: CfgNode, args: argparse.Namespace) -> None:
    """UserError if the picture would replace the configuration, the list, a video or a frame."""
    from slowfast.engine.tasks import task_class
    from slowfast.utils.paths import refuse_overwriting

    if not os.path.lexists(args.out):
        return
    found = task_class(cfg).read_lists(cfg, [args.split]).values()
    items = [item.path for item_list in found for item in item_list.items]
    sources = [args.cfg, *(item_list.source for item_list in found), *items]
    refuse_overwriting(sources, [args.out], "--out")
    refuse_overwriting(items, [os.path.dirname(args.out) or "."], "--out")  # a folder of frames


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.contact_sheet import contact_sheet, write_png
    from slowfast.config.load import load_config
    from slowfast.utils.paths import prepare_outputs

    few = ["NUM_GPUS", "0", "DATA_LOADER.NUM_WORKERS", "0"]
    few += ["TRAIN.BATCH_SIZE", str(max(args.videos, 2))]
    cfg = load_config([args.cfg], override_words(args.imports, few + args.opts))
    _refuse_sources(cfg, args)
    prepare_outputs([args.out], [], "--out")
    image = contact_sheet(cfg, args.split, args.videos, args.columns)
    write_png(image, args.out)
    print(f"{args.out}: {image.shape[1]} x {image.shape[0]} pixels")
