#!/usr/bin/env python3
"""Measure: data (samples against the decoding floor), model (a network), train (a whole step),
clip (temporal modelling beside plain CLIP).

Prints one JSON object.
"""

import argparse
import json

import _path  # noqa: F401

from slowfast.utils.cli import run_command

EXAMPLES = """examples:
  python tools/benchmark.py data
  python tools/benchmark.py data --video clip.mp4
  python tools/benchmark.py model --cfg configs/quickstart/stfm.yaml NUM_GPUS 0
  python tools/benchmark.py model --cfg configs/Kinetics/MVIT*.yaml --rounds 5 NUM_GPUS 1
  python tools/benchmark.py train --cfg configs/Kinetics/UNIFORMER_S.yaml --batch 8 NUM_GPUS 1
  python tools/benchmark.py clip --cfg exp/stdd_vitb16_k400/config.yaml --rounds 3 NUM_GPUS 0
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("data", "model", "train", "clip"))
    parser.add_argument(
        "--video", nargs="+", default=[], help="data: files or frame folders to use instead"
    )
    parser.add_argument(
        "--cfg", nargs="+", default=[], help="model, train, clip: configuration files"
    )
    parser.add_argument("--batch", type=int, default=1, help="model, train: clips at once (1)")
    parser.add_argument("--rounds", type=int, default=20, help="measured repetitions (20)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides")
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    from slowfast.analysis.speed.clip import benchmark_clip
    from slowfast.analysis.speed.data import benchmark_data
    from slowfast.analysis.speed.network import benchmark_model, benchmark_train
    from slowfast.config.load import load_config
    from slowfast.utils.errors import UserError

    if args.what == "data":
        result = benchmark_data(args.video, args.rounds)
    else:
        if not args.cfg:
            raise UserError("no configuration file is given", "see --help", "--cfg")
        kinds = {"model": benchmark_model, "train": benchmark_train, "clip": benchmark_clip}
        run = kinds[args.what]
        files = [word for word in args.cfg if word.endswith((".yaml", ".yml"))]
        opts = [word for word in args.cfg if word not in files] + args.opts
        result = {file: run(load_config([file], opts), args.batch, args.rounds) for file in files}
        result = result if len(files) > 1 else result[files[0]]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    run_command(main)
