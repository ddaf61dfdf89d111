"""Find the windows of embedded videos that are nearest to a text or to a clip.

QUERY is a text, for networks that know words (CLIP), or a video: a file, a folder of frames, an
address. All vectors are compared, in pieces whose memory is bounded. --page writes one file in
which the results play.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from slowfast.cli.options import add_device, override_words
from slowfast.config.plugins import add_import_option

if TYPE_CHECKING:
    from slowfast.inference.embeddings.search import Query
    from slowfast.inference.embeddings.space import Space

EXAMPLES = """examples:
  {prog} "a person juggling"
  {prog} "a person juggling" --vectors embeddings --page juggling.html
  {prog} video.mp4 --start 12 --end 14 --top 50 --out found.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("query", metavar="QUERY", help="a text or a video")
    parser.add_argument(
        "--vectors",
        nargs="+",
        default=["embeddings"],
        metavar="FOLDER",
        help="folders or files that embed has written (embeddings)",
    )
    parser.add_argument("--top", type=int, default=20, help="results (20)")
    parser.add_argument("--start", type=float, help="of a video: seconds at which the part begins")
    parser.add_argument("--end", type=float, help="where it ends (a window later)")
    parser.add_argument("--out", default="", help="file of the results, .json or .csv")
    parser.add_argument("--page", default="", help="page of the results, .html")
    parser.add_argument("--checkpoint", default="", help="the network, if its file has moved")
    parser.add_argument(
        "--engine", choices=("auto", "faiss", "torch"), default="auto", help="what compares (auto)"
    )
    add_device(parser)
    add_import_option(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.inference.embeddings.search import (
        Query,
        as_csv,
        as_json,
        as_table,
        network_of,
        search,
    )
    from slowfast.inference.embeddings.space import Space
    from slowfast.utils.errors import UserError
    from slowfast.utils.files import write_text_atomic

    if args.top < 1:
        raise UserError(f"is {args.top}", "1 or more", "--top")
    query = Query.of(args.query, args.start, args.end)
    space = Space([os.path.expanduser(word) for word in args.vectors])
    _prepare_files(args, query, space)
    words = override_words(args.imports, [])
    predictor = network_of(space.facts, args.checkpoint, args.device, words)
    query = query.for_windows(space.facts.window)
    hits = search(space, query.vector(predictor), args.top, args.engine)
    print(as_table(hits), end="")
    if args.out:
        is_table = args.out.lower().endswith(".csv")
        write_text_atomic(args.out, as_csv(hits) if is_table else as_json(hits))
    if args.page:
        from slowfast.analysis.report.neighbours import write_neighbours

        write_neighbours(query, hits, space, args.page)
        print(f"page: {args.page}")


def _prepare_files(args: argparse.Namespace, query: Query, space: Space) -> None:
    """Make sure that the files can be written, and that none of them is read; UserError."""
    from slowfast.utils.errors import UserError
    from slowfast.utils.files import make_dirs
    from slowfast.utils.paths import prepare_outputs

    sources = [file.path for file in space.files] + ([query.video] if query.video else [])
    sources += [args.checkpoint or space.facts.checkpoint]
    for key, endings in (("out", (".json", ".csv")), ("page", (".html",))):
        path = os.path.expanduser(getattr(args, key))
        if not path:
            continue
        if not path.lower().endswith(endings):
            raise UserError(
                f"{path} is no {' or '.join(endings)} file", f"name it {endings[0]}", f"--{key}"
            )
        if os.path.isdir(path):
            raise UserError(f"{path} is a folder", "name a file", f"--{key}")
        prepare_outputs([path], sources, f"--{key}")
        make_dirs(Path(path).parent, f"--{key}")
        setattr(args, key, path)
