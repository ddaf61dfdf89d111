"""Make lists, class names and a ready YAML file from a folder of videos or official annotations.

  folder    FOLDER/<class>/<video>, divided at random, or FOLDER/{train,val,test}/<class>/<video>
  kinetics  official csv files (--annotations, several) and a tree of videos (--videos)
  ssv2, jester, ucf101, hmdb51   the folder of the official files and that of the videos or frames
  charades  the folder of the official files (Charades_v1_train.csv …) and that of the frames

Exit code: 0 all videos are there, 1 some are missing (see missing.txt), 2 wrong use.
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slowfast.datasets.folder_lists import SplitLists

SMALL_BASE = "quickstart/stfm"
_WEIGHT_SUFFIXES = (".pyth", ".pth", ".pt", ".safetensors")

EXAMPLES = """examples:
  {prog} folder data/moving_shapes_8/videos --out lists/mine
  {prog} folder mine --out lists/mine --base Kinetics/UNIFORMER_S --classes lists/other/classes.txt
  {prog} kinetics --annotations k400/train.csv k400/val.csv --videos k400/videos --out lists/k400
  {prog} ucf101 --annotations ucfTrainTestlist --videos UCF-101 --out lists/ucf101
  {prog} charades --annotations Charades --videos Charades_v1_rgb --out lists/charades \\
      --base Charades/SLOWFAST_16x8_R50
then:
  {run} --cfg lists/mine/config.yaml OUTPUT_DIR output/mine
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "kind", choices=("folder", "kinetics", "ssv2", "jester", "ucf101", "hmdb51", "charades")
    )
    parser.add_argument("folder", nargs="?", help="folder: where the class folders are")
    parser.add_argument("--annotations", nargs="+", default=[], help="official csv files or folder")
    parser.add_argument("--videos", help="folder of the videos or frame folders")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--val", type=float, default=0.1, help="folder: share of videos (0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="folder: share of videos (0.1)")
    parser.add_argument("--seed", type=int, default=0, help="folder: seed of the division (0)")
    parser.add_argument(
        "--split", type=int, default=1, choices=(1, 2, 3), help="ucf101, hmdb51: official split (1)"
    )
    parser.add_argument("--template", default="{:05d}.jpg", help="images of frame folders")
    parser.add_argument(
        "--follow-links", action="store_true", help="follow links that lead out of the folder"
    )
    parser.add_argument(
        "--classes",
        default="",
        metavar="FILE",
        help="folder: names in the order of their labels, of which the folders may be a part: "
        "classes.txt of other lists, a JSON file, or a checkpoint",
    )
    parser.add_argument(
        "--base",
        default="",
        help="configuration to build on, a file or a published one (quickstart/stfm; with weights "
        "the one of configs/finetune for their network)",
    )
    parser.add_argument(
        "--weights",
        default=os.environ.get("WEIGHTS", ""),
        metavar="FILE",
        help="weights to start from (or the environment variable WEIGHTS)",
    )


def _files_of(path: str) -> list[str]:
    """The file itself, or the files in a folder."""
    if not os.path.isdir(path):
        return [path]
    return [entry.path for entry in os.scandir(path) if entry.is_file()]


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.datasets import make_lists
    from slowfast.datasets.charades_annotations import from_charades
    from slowfast.utils.errors import UserError

    base = _find_base(args)  # before videos are looked for, which may take long
    if args.kind == "folder":
        made = _lists_of_folder(args)
    elif args.classes:
        raise UserError(f"{args.kind} has classes of its own", "leave it out", "--classes")
    elif not args.annotations or not args.videos:
        raise UserError(f"{args.kind} needs --annotations and --videos", "see --help")
    elif args.kind == "kinetics":
        made = make_lists.from_kinetics(args.annotations, args.videos, args.follow_links)
    elif args.kind == "charades":
        made = from_charades(args.annotations[0], args.videos)
    else:
        made = make_lists.from_official(
            args.kind, args.annotations[0], args.videos, args.split, args.template
        )
    made.image_template = args.template
    read = [file for path in args.annotations for file in _files_of(path)]
    read += [args.classes] if args.classes else []
    config = make_lists.write_lists(made, args.out, base, read, args.weights)
    counts = ", ".join(f"{len(items)} {part}" for part, items in made.splits.items())
    print(f"{len(made.class_names)} classes; videos: {counts}")
    for note in made.notes:
        print(f"note: {note}")
    if made.missing:
        print(f"{len(made.missing)} videos are missing, e.g. {made.missing[0]}: missing.txt")
    for line in _advice(args, base, config):
        print(line)
    print(f"{args.run_command} --cfg {shlex.quote(str(config))}")
    return 1 if made.missing else 0


def _lists_of_folder(args: argparse.Namespace) -> SplitLists:
    from slowfast.datasets.folder_lists import from_folder
    from slowfast.utils.errors import UserError

    if not args.folder:
        raise UserError("no folder is given", "see --help", "FOLDER")
    return from_folder(
        args.folder,
        args.val,
        args.test,
        args.seed,
        args.follow_links,
        _class_names(args.classes) if args.classes else (),
        args.template,
    )


def _class_names(file: str) -> list[str]:
    """Names in label order, of a text, a JSON file or a checkpoint."""
    from slowfast.datasets.classnames import read_class_names
    from slowfast.models.weights.files import inspect_file
    from slowfast.utils.errors import UserError

    if not file.endswith(_WEIGHT_SUFFIXES):
        return read_class_names(file, "--classes")
    names = inspect_file(file)["classes"]
    if not names:
        raise UserError(f"{file} holds no class names", "give a file of names", "--classes")
    return names


def _find_base(args: argparse.Namespace) -> Path:
    """The configuration file that --base names, else one for the weights, else the small one."""
    from slowfast.config.yaml_file import find_config
    from slowfast.utils.errors import UserError

    if args.weights and not os.path.isfile(args.weights):
        raise UserError(f"there is no file {args.weights}", "name a file of weights", "--weights")
    if args.weights and not args.base:
        return _fine_tuning_base(args.weights)
    name = args.base or SMALL_BASE
    base = find_config(name)
    if not base.is_file():
        raise UserError(
            f"there is no configuration file {name}",
            "name a file, or one below configs (Kinetics/UNIFORMER_S)",
            "--base",
        )
    return base


def _fine_tuning_base(weights: str) -> Path:
    """The configuration of configs/finetune for the network that the file is of."""
    from slowfast.config.yaml_file import published_folder
    from slowfast.models.weights.recipes import fitting_configuration
    from slowfast.utils.errors import UserError

    files = sorted(Path(published_folder() or ".", "configs/finetune").glob("*.yaml"))
    file, networks = fitting_configuration(weights, files, "--weights")
    if file is None:
        known = " or ".join(networks) or "an unknown network"
        raise UserError(
            f"{weights} holds weights of {known}, for which configs/finetune has no recipe",
            "name a configuration of that network by --base",
            "--weights",
        )
    return file


def _advice(args: argparse.Namespace, base: Path, config: Path) -> list[str]:
    """What the recipe is good for, and how weights are used."""
    from slowfast.utils.errors import UserError

    if args.weights:
        return [f"{config} fine-tunes {args.weights} by {base.name}"]
    if args.base:
        return []
    found = _weights_in("pretrained")
    for file in found:
        try:
            recipe = _fine_tuning_base(file).stem
        except UserError:  # no network, or one without a recipe: the next may be better
            continue
        data = args.folder if args.kind == "folder" else args.out
        words = {"MODEL": recipe, "WEIGHTS": file, "DATA": data}
        command = " ".join(f"{name}={shlex.quote(value)}" for name, value in words.items())
        return [
            f"{config} trains a small network from random weights, for a first try",
            f"better results from the weights in pretrained/: {command} bash exp/finetune/run.sh",
        ]
    return [
        f"{config} trains a small network from random weights, for a first try: what it reaches "
        "says little about larger ones",
        "for real use, put released weights into pretrained/ (see pretrained/README.md) and give "
        "them with --weights, or choose a recipe with --base",
    ]


def _weights_in(folder: str) -> list[str]:
    """Files of weights in a folder."""
    if not os.path.isdir(folder):
        return []
    return sorted(e.path for e in os.scandir(folder) if e.name.endswith(_WEIGHT_SUFFIXES))
