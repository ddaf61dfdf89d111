#!/usr/bin/env python3
"""Draw what the network sees: the clips of the first batches after all augmentation, as a PNG."""

import argparse

import _path  # noqa: F401

from slowfast.utils.cli import run_command

EXAMPLE = (
    "example: python tools/show_data.py --cfg configs/quickstart/stfm.yaml --out sheet.png "
    "DATA.PATH_TO_DATA_DIR data/moving_shapes_8"
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--cfg", required=True, help="configuration file")
    parser.add_argument("--split", default="train", choices=("train", "val", "test"))
    parser.add_argument("--videos", type=int, default=8, help="how many (8)")
    parser.add_argument("--columns", type=int, default=8, help="frames of a clip shown (8)")
    parser.add_argument("--out", default="data_sheet.png", help="picture to write")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides")
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    from slowfast.analysis.contact_sheet import contact_sheet, write_png
    from slowfast.config.load import load_config

    few = ["NUM_GPUS", "0", "DATA_LOADER.NUM_WORKERS", "0"]
    few += ["TRAIN.BATCH_SIZE", str(max(args.videos, 2))]
    cfg = load_config([args.cfg], few + args.opts)
    image = contact_sheet(cfg, args.split, args.videos, args.columns)
    write_png(image, args.out)
    print(f"{args.out}: {image.shape[1]} x {image.shape[0]} pixels")


if __name__ == "__main__":
    run_command(main)
