"""Measure the speed of the data path or of a network.

  data   samples against the decoding floor      model   forward and backward of a network
  train  whole training steps                    clip    temporal modelling beside plain CLIP
  loader samples a second, beside other loaders
  report size of the page of a large test, and the time to write it
  campaign  steps of all families on one device, in one table (--out)

Prints one JSON object; a campaign prints its page, a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from slowfast.cli.options import add_overrides, override_words, split_files
from slowfast.utils.json_text import json_text

MODES = ("plain", "eager", "compiled")
PRECISIONS = ("fp32", "tf32", "bf16")

EXAMPLES = """examples:
  {prog} data
  {prog} data --video clip.mp4
  {prog} loader --rounds 3 --workers 2 --batch 8
  {prog} model --cfg configs/quickstart/stfm.yaml NUM_GPUS 0
  {prog} model --cfg configs/Kinetics/MVIT*.yaml --rounds 5 NUM_GPUS 1
  {prog} train --cfg configs/Kinetics/UNIFORMER_S.yaml --batch 8 NUM_GPUS 1
  {prog} clip --cfg exp/stdd_vitb16_k400/config.yaml --rounds 3 NUM_GPUS 0
  {prog} report --rounds 3 --video *.mp4
  {prog} campaign --out runs/speed NUM_GPUS 1
  {prog} campaign --cfg configs/quickstart/mvit.yaml --modes eager --batch 2 NUM_GPUS 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    kinds = ("data", "loader", "model", "train", "clip", "report", "campaign")
    parser.add_argument("what", choices=kinds)
    parser.add_argument(
        "--video",
        nargs="+",
        default=[],
        help="data: files or frame folders to use instead; loader: a usual and a slow file; "
        "report: files that stand for the videos",
    )
    parser.add_argument(
        "--cfg", nargs="+", default=[], help="model, train, clip: configuration files"
    )
    parser.add_argument(
        "--batch",
        type=int,
        help="loader, model, train: clips at once (1); campaign: clips per step (32)",
    )
    parser.add_argument("--workers", type=int, default=2, help="loader: processes of each (2)")
    parser.add_argument("--rounds", type=int, default=20, help="measured repetitions (20)")
    parser.add_argument("--out", default="runs/speed", help="campaign: folder (runs/speed)")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="campaign: what is not begun by then is left out"
    )
    parser.add_argument("--only", nargs="+", default=[], help="campaign: networks by their names")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="campaign: (all)")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="campaign: (all)"
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.speed.clip import benchmark_clip
    from slowfast.analysis.speed.data import benchmark_data
    from slowfast.analysis.speed.loader import benchmark_loader
    from slowfast.analysis.speed.network import benchmark_model, benchmark_train
    from slowfast.analysis.speed.report import benchmark_report
    from slowfast.config.load import load_config
    from slowfast.utils.errors import UserError

    if args.what == "campaign":
        print(_run_campaign(args).read_text(encoding="utf-8"))
        return
    batch = args.batch or 1
    if args.what == "data":
        result = benchmark_data(args.video, args.rounds)
    elif args.what == "loader":
        result = benchmark_loader(args.video, args.rounds, args.workers, batch)
    elif args.what == "report":
        result = benchmark_report(args.video, args.rounds)
    else:
        if not args.cfg:
            raise UserError("no configuration file is given", "see --help", "--cfg")
        kinds = {"model": benchmark_model, "train": benchmark_train, "clip": benchmark_clip}
        measure = kinds[args.what]
        files, words = split_files(args.cfg)
        words = override_words(args.imports, words + args.opts)
        result = {f: measure(load_config([f], words), batch, args.rounds) for f in files}
        result = result if len(files) > 1 else result[files[0]]
    print(json_text(result, indent=1))


def _run_campaign(args: argparse.Namespace) -> Path:
    from slowfast.analysis.speed.campaign import SUBJECTS, Campaign, Subject
    from slowfast.analysis.speed.campaign_report import run_campaign
    from slowfast.config.load import load_config
    from slowfast.utils.errors import UserError
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.runtime import Runtime, choose_device

    setup_logging(None)
    files, words = split_files(args.cfg)
    words = override_words(args.imports, words + args.opts)
    subjects = [Subject(Path(file).stem, file) for file in files] or list(SUBJECTS)
    if args.only:
        subjects = [
            s for s in subjects if any(word.lower() in s.name.lower() for word in args.only)
        ]
    if not subjects:
        names = ", ".join(subject.name for subject in SUBJECTS)
        raise UserError("no network has such a name", f"one of {names}", "--only")
    cfg = load_config([subjects[0].file], [*subjects[0].words, *words])
    campaign = Campaign(
        Runtime(choose_device(cfg.NUM_GPUS)),
        batch=args.batch or 32,
        rounds=args.rounds,
        minutes=args.minutes,
        words=words,
    )
    return run_campaign(campaign, subjects, args.out, args.precisions, args.modes)
