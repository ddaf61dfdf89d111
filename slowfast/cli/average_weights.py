"""Average the checkpoints of a run: one set of weights that generalises better than the last.

  swa   equal weights                      gwa   a Gaussian over the epochs (--mean, --deviation)
  bwa   Beta(1/2, 1/2): first and last     ewa   newer epochs count more (--decay)

Any network; one checkpoint is in memory at a time. Epoch 0 is the original (--original), such as
CLIP. The result is a file of weights: TEST.CHECKPOINT_FILE_PATH takes it.
"""

from __future__ import annotations

import argparse

from slowfast.utils.json_text import json_text

EXAMPLES = """example:
  {prog} output/stdd_vitb16_k400 output/swa_2_22.pyth --start 2 --end 22
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    from slowfast.analysis.averaging import METHODS

    parser.add_argument("run", metavar="RUN", help="OUTPUT_DIR of the training")
    parser.add_argument("out", help="file to write: .pyth, .pth or .safetensors")
    parser.add_argument("--method", choices=METHODS, default="swa")
    parser.add_argument("--start", type=int, default=2, help="first epoch (2)")
    parser.add_argument("--end", type=int, default=22, help="last epoch (22)")
    parser.add_argument("--original", default="", help="weights that count as epoch 0")
    parser.add_argument("--mean", type=float, default=15.0, help="gwa: epoch of the middle (15)")
    parser.add_argument("--deviation", type=float, default=10.0, help="gwa: epochs (10)")
    parser.add_argument("--decay", type=float, default=0.9, help="ewa: factor per epoch (0.9)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.averaging import average, epoch_weights, find_epochs
    from slowfast.engine.checkpoint import run_checkpoints
    from slowfast.models.weights.files import check_suffix
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.paths import prepare_outputs

    setup_logging(None)
    check_suffix(args.out)
    paths = find_epochs(args.run, args.start, args.end, args.original)
    # No checkpoint of the run is replaced, averaged or not.
    prepare_outputs([args.out], [*run_checkpoints(args.run), *paths.values()])
    weights = epoch_weights(args.method, list(paths), args.mean, args.deviation, args.decay)
    print(json_text(average(paths, weights, args.out)))
