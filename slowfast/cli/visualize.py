"""Draw what a trained network looks at: a sheet (PNG) and an animation for each video.

Attention of the last block or of all blocks (roll-out), Grad-CAM for convolutional networks, and
the tokens that STFM follows. Exit code: 0 all done, 1 some videos could not be read, 2 wrong use.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slowfast.cli.options import (
    add_checkpoint,
    add_classes,
    add_device,
    class_names,
    override_words,
)
from slowfast.config.plugins import add_import_option

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """examples:
  {prog} output/mine/checkpoints/checkpoint_best.pyth video.mp4 --out looks
  {prog} checkpoint.pyth *.mp4 --out looks --method rollout --format mp4
  {prog} checkpoint.pyth video.mp4 --out looks --method gradcam --layer layer3 --target archery
"""
_FORMATS = ("gif", "webp", "mp4", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_checkpoint(parser)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="videos, or folders of frames")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument(
        "--method",
        default="auto",
        choices=("auto", "attention", "rollout", "gradcam"),
        help="attention of the last block, roll-out over all blocks, or Grad-CAM (auto: attention "
        "where the network has it, else Grad-CAM)",
    )
    parser.add_argument(
        "--layer",
        nargs="+",
        default=[],
        metavar="NAME",
        help="the block, or the modules of Grad-CAM (the last one)",
    )
    parser.add_argument("--target", default="", help="class that Grad-CAM explains (the predicted)")
    parser.add_argument("--frames", type=int, default=8, help="frames on the sheet (8)")
    parser.add_argument("--tokens", type=int, default=12, help="tokens of STFM that are drawn (12)")
    parser.add_argument("--size", type=int, default=192, help="about the side of a frame (192)")
    parser.add_argument("--colormap", default="turbo", help="colours of the map (turbo)")
    parser.add_argument("--format", default="gif", choices=_FORMATS, help="of the animation (gif)")
    parser.add_argument("--fps", type=float, default=4, help="frames a second of it (4)")
    add_classes(parser)
    add_device(parser)
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="overrides")
    add_import_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import slowfast
    from slowfast.analysis.contact_sheet import write_png
    from slowfast.analysis.looks import LookOptions, show_video
    from slowfast.utils.errors import UserError, VideoError
    from slowfast.utils.paths import is_within, prepare_outputs

    for name in ("frames", "tokens", "size", "fps"):
        if getattr(args, name) <= 0:
            raise UserError(f"is {getattr(args, name)}", "give a positive number", f"--{name}")
    for video in args.videos:
        if Path(video).is_dir() and is_within(args.out, video):
            raise UserError(
                f"{args.out} lies in the frames {video}", "name another folder", "--out"
            )
    targets = _targets(args)
    outputs = [path for pair in targets.values() for path in pair]
    sources = [args.checkpoint, *args.videos, *filter(None, (args.cfg, args.classes))]
    prepare_outputs(outputs, sources, "--out")
    predictor = slowfast.load(
        args.checkpoint,
        args.device,
        cfg=args.cfg,
        classes=class_names(args.classes),
        overrides=override_words(args.imports, args.opts),
    )
    options = LookOptions(
        args.method, args.layer, args.target, args.frames, args.size, args.colormap, args.tokens
    )
    failed = 0
    for video, (sheet, animation) in targets.items():
        try:
            pictures = show_video(predictor, video, options)
        except VideoError as error:
            print(f"failed: {error}", file=sys.stderr)
            failed += 1
            continue
        write_png(pictures.sheet, sheet)
        if args.format != "none":
            _write_animation(pictures.frames, animation, args.fps)
        print(f"{pictures.title} -> {sheet}")
    return 1 if failed else 0


def _targets(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Video -> (sheet, animation); the same name in several folders gets a number."""
    targets: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for video in dict.fromkeys(args.videos):
        stem = Path(video).stem or "video"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        base = Path(args.out) / name
        targets[video] = (f"{base}.png", f"{base}.{args.format}")
    return targets


def _write_animation(frames: np.ndarray, path: str, fps: float) -> None:
    from slowfast.utils.files import write_atomic
    from slowfast.video.overlay import animated
    from slowfast.video.writer import write_mp4

    kind = Path(path).suffix[1:].upper()

    def write(temporary: str) -> None:
        if kind == "MP4":
            height, width = (size // 2 * 2 for size in frames.shape[1:3])
            write_mp4(temporary, frames[:, :height, :width], round(fps) or 1, crf=20)
        else:
            Path(temporary).write_bytes(animated(frames, fps, kind))

    write_atomic(path, write)
