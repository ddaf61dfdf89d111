"""Look into checkpoint files of any supported project, convert them, or strip them to weights.

  inspect FILE                 what it holds, as JSON (--shapes: with every tensor)
  convert FILE OUT --cfg YAML  weights of the network that the configuration describes
  strip   FILE OUT             the weights alone (--average: the averaged ones)
  repack  FILE OUT             all of a run's checkpoint: a file (.pyth) as a folder (.dcp) or back

A FILE may be a folder of torch.distributed.checkpoint. OUT of convert and strip may be .pyth, .pth,
.pt or .safetensors. Exit code: 0 done, 1 inspect found numbers that are not
finite, 2 wrong use or unreadable file.
"""

from __future__ import annotations

import argparse

from slowfast.cli.options import add_overrides, override_words
from slowfast.utils.json_text import json_text

EXAMPLES = """examples:
  {prog} inspect output/mine/checkpoints/checkpoint_best.pyth
  {prog} strip output/mine/checkpoints/checkpoint_best.pyth mine.safetensors
  {prog} repack output/mine/checkpoints/checkpoint_epoch_00010.dcp whole.pyth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("what", choices=("inspect", "convert", "strip", "repack"))
    parser.add_argument("file", help="checkpoint to read")
    parser.add_argument("out", nargs="?", help="convert, strip, repack: file to write")
    parser.add_argument("--cfg", help="convert: configuration of the network")
    parser.add_argument("--average", action="store_true", help="strip: averaged weights")
    parser.add_argument("--shapes", action="store_true", help="inspect: every tensor's shape")
    add_overrides(parser, "convert: overrides")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.config.load import load_config
    from slowfast.engine.folder_writer import repack
    from slowfast.engine.network import build_network
    from slowfast.models.weights import files
    from slowfast.utils.console import printing
    from slowfast.utils.errors import UserError
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.paths import prepare_outputs

    setup_logging(None)
    if args.what == "inspect":
        facts = files.inspect_file(args.file)
        shapes = facts.pop("shapes")
        with printing():
            print(json_text(facts | ({"shapes": shapes} if args.shapes else {}), indent=1))
        return 1 if facts["not_finite"] else 0
    if not args.out:
        raise UserError("no file to write is given", "see --help", "OUT")
    if args.what == "repack":
        print(json_text(repack(args.file, args.out)))
        return 0
    files.check_suffix(args.out)
    prepare_outputs([args.out], [args.file, *([args.cfg] if args.cfg else [])])
    if args.what == "strip":
        written = files.strip_file(args.file, args.out, args.average)
    elif not args.cfg:
        raise UserError("convert needs to know the network", "name its YAML file", "--cfg")
    else:
        cfg = load_config([args.cfg], override_words(args.imports, args.opts))
        written = files.convert_file(args.file, args.out, build_network(cfg), cfg)
    print(json_text(written))
    return 0
