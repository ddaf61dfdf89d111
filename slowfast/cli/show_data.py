"""Draw what the network sees: the clips of the first batches after all augmentation, as a PNG."""

from __future__ import annotations

import argparse

from slowfast.cli.options import add_overrides, override_words

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


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.contact_sheet import contact_sheet, write_png
    from slowfast.config.load import load_config

    few = ["NUM_GPUS", "0", "DATA_LOADER.NUM_WORKERS", "0"]
    few += ["TRAIN.BATCH_SIZE", str(max(args.videos, 2))]
    cfg = load_config([args.cfg], override_words(args.imports, few + args.opts))
    image = contact_sheet(cfg, args.split, args.videos, args.columns)
    write_png(image, args.out)
    print(f"{args.out}: {image.shape[1]} x {image.shape[0]} pixels")
