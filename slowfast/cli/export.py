"""Write a trained network into a file that runs without this package.

OUT.pt2 runs with PyTorch, OUT.onnx with ONNX Runtime (extra: onnx): views, uint8 RGB frames of the
size that the network is tested with, become probabilities of the classes. OUT.safetensors holds the
weights, with class names and configuration. CHECKPOINT is a file, or the folder of a run. What is
written is compared with the network, on clips of --video too; exit code 1, and no file, if it
differs by more than 1e-4.
"""

from __future__ import annotations

import argparse

from slowfast.cli.options import (
    add_checkpoint,
    add_classes,
    add_overrides,
    class_names,
    override_words,
)

EXAMPLES = """examples:
  {prog} output/mine mine.onnx
  {prog} output/mine/checkpoints/checkpoint_best.pyth mine.pt2 --video one.mp4
  {prog} ViT-B-16.pt clip.onnx --cfg Kinetics/TemporalCLIP_vitb16_8x16_STAdapter --classes names.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_checkpoint(parser)
    parser.add_argument("out", help="file to write: .pt2, .onnx or .safetensors")
    add_classes(parser)
    parser.add_argument(
        "--video", action="append", default=[], help="compare on this video, too (repeatable)"
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    import slowfast
    from slowfast.inference.export import check_target, export
    from slowfast.inference.exported import usage
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.paths import prepare_outputs

    setup_logging(None)
    check_target(args.out)
    sources = [args.checkpoint, *args.video, *filter(None, (args.cfg, args.classes))]
    prepare_outputs([args.out], sources)
    words = ["TRAIN.MIXED_PRECISION", "False", *override_words(args.imports, args.opts)]
    classes = class_names(args.classes)
    predictor = slowfast.load(
        args.checkpoint, "cpu", cfg=args.cfg, classes=classes, overrides=words
    )
    written = export(predictor, args.out, args.video)
    print(f"{args.out}: {written.summary}")
    print(f"\nwithout this package:\n\n{usage(args.out, written.facts)}", end="")
