"""Measure the speed of the data path or of a network.

  data   samples against the decoding floor      model   forward and backward of a network
  train  whole training steps                    clip    temporal modelling beside plain CLIP
  loader samples a second, beside other loaders

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json

from slowfast.cli.options import add_overrides, override_words, split_files

EXAMPLES = """examples:
  {prog} data
  {prog} data --video clip.mp4
  {prog} loader --rounds 3 --workers 2 --batch 8
  {prog} model --cfg configs/quickstart/stfm.yaml NUM_GPUS 0
  {prog} model --cfg configs/Kinetics/MVIT*.yaml --rounds 5 NUM_GPUS 1
  {prog} train --cfg configs/Kinetics/UNIFORMER_S.yaml --batch 8 NUM_GPUS 1
  {prog} clip --cfg exp/stdd_vitb16_k400/config.yaml --rounds 3 NUM_GPUS 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("what", choices=("data", "loader", "model", "train", "clip"))
    parser.add_argument(
        "--video",
        nargs="+",
        default=[],
        help="data: files or frame folders to use instead; loader: a usual and a slow file",
    )
    parser.add_argument(
        "--cfg", nargs="+", default=[], help="model, train, clip: configuration files"
    )
    parser.add_argument("--batch", type=int, default=1, help="clips at once (1)")
    parser.add_argument("--workers", type=int, default=2, help="loader: processes of each (2)")
    parser.add_argument("--rounds", type=int, default=20, help="measured repetitions (20)")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.speed.clip import benchmark_clip
    from slowfast.analysis.speed.data import benchmark_data
    from slowfast.analysis.speed.loader import benchmark_loader
    from slowfast.analysis.speed.network import benchmark_model, benchmark_train
    from slowfast.config.load import load_config
    from slowfast.utils.errors import UserError

    if args.what == "data":
        result = benchmark_data(args.video, args.rounds)
    elif args.what == "loader":
        result = benchmark_loader(args.video, args.rounds, args.workers, args.batch)
    else:
        if not args.cfg:
            raise UserError("no configuration file is given", "see --help", "--cfg")
        kinds = {"model": benchmark_model, "train": benchmark_train, "clip": benchmark_clip}
        measure = kinds[args.what]
        files, words = split_files(args.cfg)
        words = override_words(args.imports, words + args.opts)
        result = {f: measure(load_config([f], words), args.batch, args.rounds) for f in files}
        result = result if len(files) > 1 else result[files[0]]
    print(json.dumps(result, indent=1))
