"""Measure the speed of the data path or of a network.

  data   samples against the decoding floor      model   forward and backward of a network
  train  whole training steps                    clip    temporal modelling beside plain CLIP
  loader samples a second, beside other loaders
  shards samples a second of files, tar shards, shards in an S3 server on the loopback interface
  predict  from a video to its answer, cold, warm and by the folder
  embed  windows a second of embedding beside plain answers
  search  nearest neighbours among random vectors: seconds and memory
  export exported networks beside the networks: small ones of all families, or those of --cfg
  checkpoint  seconds for which a training stands still: single file, folder in the background
  report size of the page of a large test, and the time to write it
  campaign  steps of all families on one device, in one table (--out)

Prints one JSON object; a campaign prints its page, a Markdown table.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast.cli.options import add_overrides, override_words, split_files, words_of_run
from slowfast.utils.errors import UserError
from slowfast.utils.json_text import json_text

if TYPE_CHECKING:
    from slowfast.config.node import CfgNode

KINDS = (
    *("data", "loader", "shards", "model", "train"),
    *("clip", "predict", "embed", "search", "export", "checkpoint", "report", "campaign"),
)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PLAIN = ("attention", "convolutions")
MODES = ("plain", "eager", "compiled")
PRECISIONS = ("fp32", "tf32", "bf16")

EXAMPLES = """examples:
  {prog} data
  {prog} data --video clip.mp4
  {prog} loader --rounds 3 --workers 2 --batch 8
  {prog} shards --rounds 3 --workers 2 --batch 8
  {prog} model --cfg configs/quickstart/stfm.yaml NUM_GPUS 0
  {prog} model --plain convolutions --clock cpu --cfg configs/Kinetics/X3D_XS.yaml NUM_GPUS 0
  {prog} model --cfg configs/Kinetics/MVIT*.yaml --rounds 5 NUM_GPUS 1
  {prog} train --cfg configs/Kinetics/UNIFORMER_S.yaml --batch 8 NUM_GPUS 1
  {prog} export
  {prog} export --cfg configs/quickstart/stfm.yaml NUM_GPUS 0
  {prog} clip --cfg exp/stdd_vitb16_k400/config.yaml --rounds 3 NUM_GPUS 0
  {prog} predict --cfg configs/quickstart/stfm.yaml --rounds 5 NUM_GPUS 0
  {prog} embed --cfg configs/quickstart/stfm.yaml --rounds 5 NUM_GPUS 0
  {prog} search --vectors 1000000 --rounds 3
  {prog} report --rounds 3 --video *.mp4
  {prog} checkpoint --cfg configs/quickstart/stfm.yaml --rounds 5 NUM_GPUS 0
  {prog} campaign --out runs/speed NUM_GPUS 1
  {prog} campaign --cfg configs/quickstart/mvit.yaml --modes eager --batch 2 NUM_GPUS 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("what", choices=KINDS)
    parser.add_argument(
        "--video",
        nargs="+",
        default=[],
        help="data, predict, embed: files (data: or frame folders) to use instead; loader: a usual "
        "and a slow file; shards: a file; report: files that stand for the videos",
    )
    parser.add_argument(
        "--cfg",
        nargs="+",
        default=[],
        help="model, train, clip, predict, embed, export, checkpoint: configuration files",
    )
    parser.add_argument(
        "--batch",
        type=int,
        help="loader, shards, model, train: clips at once (1); campaign: clips per step (32); "
        "predict, embed: videos of a folder (8)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="loader, shards: processes of each (2); shards: 0 counts CPU seconds of this process",
    )
    parser.add_argument("--videos", type=int, default=64, help="shards: copies of the video (64)")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="search: how many (1000000)")
    parser.add_argument("--dimension", type=int, default=512, help="search: their numbers (512)")
    parser.add_argument(
        "--plain",
        choices=PLAIN,
        default="attention",
        help="model: what PyTorch's plain operators compute in the network beside ours "
        "(attention); convolutions: in float32",
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="model, embed: time as it passes (wall), or of the processor (cpu), which other "
        "processes disturb less",
    )
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
    kinds: dict[str, Callable[[argparse.Namespace], Any]] = {
        "data": _data,
        "loader": _loader,
        "shards": _shards,
        "predict": _predict,
        "embed": _embed,
        "search": _search,
        "export": _export,
        "report": _report,
        "checkpoint": _checkpoint,
        "campaign": _campaign,
    }
    result = kinds.get(args.what, _networks)(args)
    print(result if isinstance(result, str) else json_text(result, indent=1))


def _data(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.data import benchmark_data

    return benchmark_data(args.video, args.rounds)


def _loader(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.loader import benchmark_loader

    return benchmark_loader(args.video, args.rounds, args.workers, args.batch or 1)


def _shards(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.shards import benchmark_shards

    video = args.video[0] if args.video else ""
    return benchmark_shards(video, args.rounds, args.workers, args.batch or 1, args.videos)


def _networks(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.clip import benchmark_clip
    from slowfast.analysis.speed.network import benchmark_model, benchmark_train

    measure_model = functools.partial(
        benchmark_model, plain_kind=args.plain, clock=CLOCKS[args.clock]
    )
    kinds = {"model": measure_model, "train": benchmark_train, "clip": benchmark_clip}
    return _of_files(args, lambda cfg: kinds[args.what](cfg, args.batch or 1, args.rounds))


def _predict(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.predict import benchmark_predict

    command = [*words_of_run()[:-1], "predict"]
    batch = args.batch or 8
    return _of_files(args, lambda c: benchmark_predict(c, args.video, args.rounds, batch, command))


def _embed(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.embeddings import benchmark_embed

    clock, batch = CLOCKS[args.clock], args.batch or 8
    return _of_files(args, lambda c: benchmark_embed(c, args.video, args.rounds, batch, clock))


def _search(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.embeddings import benchmark_search

    return benchmark_search(args.vectors, args.dimension, args.rounds)


def _export(args: argparse.Namespace) -> Any:
    from slowfast.analysis.export_check import check_export, small_families

    if args.cfg:
        return _of_files(args, check_export)
    return {name: check_export(cfg) for name, cfg in small_families().items()}


def _report(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.report import benchmark_report

    return benchmark_report(args.video, args.rounds)


def _checkpoint(args: argparse.Namespace) -> Any:
    from slowfast.analysis.speed.checkpoints import benchmark_checkpoint

    return _of_files(args, lambda cfg: benchmark_checkpoint(cfg, args.rounds))


def _of_files(args: argparse.Namespace, measure: Callable[[CfgNode], Any]) -> Any:
    """What ``measure`` gives for each configuration, by file where there are several."""
    from slowfast.config.load import load_config

    if not args.cfg:
        raise UserError("no configuration file is given", "see --help", "--cfg")
    files, words = split_files(args.cfg)
    words = override_words(args.imports, words + args.opts)
    result = {file: measure(load_config([file], words)) for file in files}
    return result if len(files) > 1 else result[files[0]]


def _campaign(args: argparse.Namespace) -> str:
    from slowfast.analysis.speed.campaign import SUBJECTS, Campaign, Subject
    from slowfast.analysis.speed.campaign_report import run_campaign
    from slowfast.config.load import load_config
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
    page = run_campaign(campaign, subjects, args.out, args.precisions, args.modes)
    return page.read_text(encoding="utf-8")
