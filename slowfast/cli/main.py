"""`slowfast COMMAND …`: finds the command, builds its parser, runs it.

A command is a module of this package with

- a docstring, the description of ``--help``, and ``EXAMPLES``, in which ``{prog}`` stands for the
  command itself and ``{run}`` for the one that trains and tests;
- ``add_arguments(parser)``;
- ``run(args)``, which gives the exit code (None: 0) and imports what it needs, so that ``--help``
  answers at once. ``args.run_command`` is the text of ``{run}``;
- ``INTERMIXED = False`` if ``--`` stands before the KEY VALUE words.

A module with ``main(argv, prog, overrides)`` instead reads its words itself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from slowfast.utils.cli import run_command
from slowfast.utils.console import printing
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean
from slowfast.version import __version__


@dataclass(frozen=True)
class Command:
    """A command's ``module``, the file in tools/ that is the same, ``overrides`` that it adds.

    ``prints``: it does nothing but print, so that ``| head`` ends it with code 0.
    """

    module: str
    tool: str = ""
    overrides: tuple[str, ...] = ()
    help: str = ""  # where the module's docstring is not the one of this command
    prints: bool = False


COMMANDS = {
    "train": Command("run_net", "", ("TEST.ENABLE", "False"), "Train a network."),
    "test": Command("run_net", "", ("TRAIN.ENABLE", "False"), "Test a network."),
    "run": Command("run_net", "run_net"),
    "predict": Command("predict", "predict", prints=True),
    "embed": Command("embed", "embed"),
    "search": Command("search", "search", prints=True),
    "check-env": Command("check_env", "check_env", prints=True),
    "check-data": Command("check_data", "check_data"),
    "make-lists": Command("make_lists", "make_lists"),
    "show-data": Command("show_data", "show_data"),
    "visualize": Command("visualize", "visualize"),
    "resize-videos": Command("resize_videos", "resize_videos"),
    "make-shards": Command("make_shards", "make_shards"),
    "extract-frames": Command("extract_frames", "extract_frames"),
    "make-moving-shapes": Command("make_moving_shapes", "make_moving_shapes"),
    "make-compositions": Command("make_compositions", "make_compositions"),
    "text-prompts": Command("text_prompts", "text_prompts"),
    "model-table": Command("model_table", "model_table", prints=True),
    "convert": Command("convert", "convert_checkpoint"),
    "export": Command("export", "export"),
    "probe": Command("probe", "probe"),
    "average-weights": Command("average_weights", "average_weights"),
    "report": Command("report", "report"),
    "sweep": Command("sweep", "sweep"),
    "compare-runs": Command("compare_runs", "compare_runs", prints=True),
    "protocol-table": Command("protocol_table", "protocol_table", prints=True),
    "benchmark": Command("benchmark", "benchmark"),
    "scale": Command("scale", "scale", prints=True),
    "stress": Command("stress", "stress"),
    "mutate": Command("mutate", "mutate"),
    "parity": Command("parity", "parity"),
    "config-reference": Command("config_reference", "config_reference"),
    "make-experiments": Command("make_experiments", "make_experiments"),
}


def main() -> None:
    """The `slowfast` command: runs the command that is named first, and exits with its code."""
    run_command(lambda: dispatch(sys.argv[1:]))


def run_tool(name: str) -> None:
    """The file in tools/ that is the command ``name``: the same, but for the name in its help."""
    tool = f"python tools/{COMMANDS[name].tool}.py"
    run_command(lambda: call(name, sys.argv[1:], tool, "python tools/run_net.py"))


def dispatch(argv: Sequence[str]) -> int:
    """Run `slowfast` with these words; UserError for an unknown command."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help", "help"):
        with printing():
            print(overview())
        return 0
    if name == "--version":
        with printing():
            print(__version__)
        return 0
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        raise UserError(f"there is no command {name!r}", near or "see slowfast --help", "slowfast")
    return call(name, argv[1:], f"slowfast {name}", "slowfast run")


def call(name: str, argv: Sequence[str], prog: str, run_prog: str) -> int:
    """Run a command; the help names it ``prog``, and the one that trains ``run_prog``."""
    command = COMMANDS[name]
    module = _module_of(command)
    if hasattr(module, "main"):
        return module.main(argv, prog, command.overrides)
    parser = argparse.ArgumentParser(
        prog=prog,
        description=module.__doc__,
        # not format(): examples hold braces of their own
        epilog=module.EXAMPLES.replace("{prog}", prog).replace("{run}", run_prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    mixed = getattr(module, "INTERMIXED", True)  # options may stand between KEY VALUE words
    args = parser.parse_intermixed_args(argv) if mixed else parser.parse_args(argv)
    args.run_command = run_prog
    with printing() if command.prints else contextlib.nullcontext():
        return module.run(args) or 0


def overview() -> str:
    """The commands with the first sentence of each."""
    lines = ["usage: slowfast COMMAND ...", "", "commands (slowfast COMMAND --help explains one):"]
    for name, command in COMMANDS.items():
        text = command.help or _module_of(command).__doc__.strip().splitlines()[0]
        lines.append(f"  {name:<20}{text}")
    example = "slowfast train --cfg quickstart/stfm NUM_GPUS 0 DATA.PATH_TO_DATA_DIR data/mine"
    return "\n".join([*lines, "", f"example: {example}"])


def _module_of(command: Command) -> ModuleType:
    return importlib.import_module(f"{__package__}.{command.module}")
