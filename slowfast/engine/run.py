"""The main command: configuration files and KEY VALUE words -> training and testing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from slowfast.config.defaults import get_cfg
from slowfast.config.load import explain_key, load_config, render_config
from slowfast.config.node import CfgNode
from slowfast.config.plugins import IMPORTS, add_import_option
from slowfast.config.schema import all_keys
from slowfast.config.yaml_file import Entry, find_config, read_yaml
from slowfast.engine.dry_run import dry_run
from slowfast.engine.initial import find_tested_weights
from slowfast.engine.launch import is_first_process, launch
from slowfast.engine.modes import check_modes, run_modes, wanted_modes
from slowfast.engine.precision import settle_precision
from slowfast.engine.tasks import build_task
from slowfast.engine.test import build_test, test
from slowfast.engine.train import train
from slowfast.utils.console import printing
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime

PROG = "python tools/run_net.py"
EXAMPLE = "--cfg configs/quickstart/stfm.yaml NUM_GPUS 0"


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """The options of the command, which its help calls ``prog``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train and test a video model: --cfg FILE … [--opts] KEY VALUE …",
        epilog=f"example: {prog} {EXAMPLE}",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--cfg",
        nargs="+",
        default=[],
        metavar="FILE",
        help="YAML files, or published configurations by name; each is a run of its own",
    )
    parser.add_argument(
        "--opts",
        nargs="*",
        default=[],
        metavar="KEY VALUE",
        help="overrides (the word --opts may be left out)",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="show every key, its value and where it was set"
    )
    parser.add_argument("--explain", metavar="KEY", help="explain a key or a section")
    add_import_option(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="try configuration, data, one step, one test batch"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.add_argument("--num_shards", type=int, help="machines (NUM_SHARDS)")
    parser.add_argument("--shard_id", type=int, help="number of this machine (SHARD_ID)")
    parser.add_argument("--init_method", help="where the machines meet: tcp://host:port")
    return parser


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words after ``--cfg`` -> (configuration files, KEY VALUE words).

    The first word that is no file begins the overrides (old commands write them bare).
    """
    files: list[str] = []
    for index, word in enumerate(words):
        is_file = word.endswith((".yaml", ".yml")) or find_config(word).is_file()
        if index and (word in all_keys() or not is_file):
            return files, list(words[index:])
        files.append(word)
    return files, []


def parse_command(
    argv: Sequence[str], prog: str = PROG
) -> tuple[argparse.Namespace, list[str], list[str]]:
    """(options, configuration files, KEY VALUE words) of a command line."""
    args, bare = build_parser(prog).parse_known_args(argv)
    unknown = [word for word in bare if word.startswith("--")]
    if unknown:
        raise UserError(f"unknown option {unknown[0]}", "see --help", unknown[0])
    files, words = split_words(args.cfg)
    return args, files, words + bare + list(args.opts)


def run_job(cfg: CfgNode, runtime: Runtime) -> None:
    """Train, test, and what else the configuration asks for."""
    cfg = settle_precision(cfg, runtime)
    check_modes(cfg)
    if cfg.TRAIN.ENABLE:
        _train(cfg, runtime)
    elif cfg.TEST.ENABLE:
        task, weights = build_test(cfg, runtime)
        test(task.cfg, runtime, task, weights)
    run_modes(cfg, runtime)


def _train(cfg: CfgNode, runtime: Runtime) -> None:
    """Train, and test what came of it."""
    task = build_task(cfg, runtime)
    task.data.check()
    train(cfg, runtime, task)
    if cfg.TEST.ENABLE:
        weights = find_tested_weights(cfg)
        task.data.match_classes(weights.class_names)
        test(cfg, runtime, task, weights)


def check_work(cfg: CfgNode) -> None:
    """UserError if a run has nothing to do."""
    if not (cfg.TRAIN.ENABLE or cfg.TEST.ENABLE or wanted_modes(cfg)):
        origins = " and ".join(cfg.origins.get(f"{part}.ENABLE", "") for part in ("TRAIN", "TEST"))
        raise UserError(
            f"TRAIN.ENABLE and TEST.ENABLE are False ({origins}): there is nothing to do",
            "set one of them True",
        )


def main(
    argv: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    prog: str = PROG,
    after_run: Callable[[CfgNode], None] | None = None,
) -> int:
    """Run the command line; UserError for anything a person has to change.

    ``overrides``: KEY VALUE words between the files' values and those of the command line.
    ``after_run`` gets the configuration of each run that has ended well, on one process of all.
    """
    args, files, words = parse_command(sys.argv[1:] if argv is None else argv, prog)
    if args.explain:
        entries = [entry for file in files for entry in read_yaml(file)]
        get_cfg().merge([Entry(IMPORTS, args.imports, "--import"), *entries])
        with printing():
            sys.stdout.write(explain_key(args.explain) + "\n")
        return 0
    for file in files or [None]:
        cfg = load_config(
            [file] if file else [],
            [*overrides, *words],
            imports=args.imports,
            num_shards=args.num_shards,
            shard_id=args.shard_id,
        )
        if args.print_config:
            with printing():
                sys.stdout.write(render_config(cfg) + "\n")
            continue
        check_work(cfg)
        if args.dry_run:
            launch(cfg, dry_run, args.init_method)
        elif not file:
            raise UserError("no configuration file is given", f"example: {prog} {EXAMPLE}", "--cfg")
        else:
            launch(cfg, run_job, args.init_method)
            if after_run and is_first_process(cfg):
                after_run(cfg)
    return 0
