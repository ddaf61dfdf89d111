"""Sentences about classes, for zero-shot recognition with several texts per class (STDD).

  askg      a graph of objects and sub-actions for every class, written by a chat model
  xprompt   completions of "This is an example of ..." for every triple of those graphs
  features  their features by CLIP, for DATA.TEXT_AUG_FEATURE_FILE

askg and xprompt talk to a service that speaks OpenAI's protocol. Its key is OPENAI_API_KEY in the
environment or in a file .env; OPENAI_BASE_URL names another service. Stopped, they go on where
they were. Exit code: 0 done, 1 the service or a class gave no usable answer, 2 wrong use.
"""

from __future__ import annotations

import argparse
import sys

ENV_FILE = ".env"
EXAMPLES = """examples:
  {prog} askg my_classes.json askg.yml
  {prog} xprompt my_classes.json xprompt.yml --askg askg.yml
  {prog} features my_classes.json feats.pt --prompts xprompt.yml --clip ViT-B-16.pt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("what", choices=("askg", "xprompt", "features"))
    parser.add_argument("classes", help="class names: JSON map or list, or a text file")
    parser.add_argument("out", help="file to write, or to go on with")
    parser.add_argument("--askg", help="xprompt: the graphs")
    parser.add_argument("--prompts", help="features: the completions")
    parser.add_argument("--clip", help="features: weights of the CLIP that will use them")
    parser.add_argument("--model", default="gpt-4", help="name of the chat model (gpt-4)")
    parser.add_argument("--attempts", type=int, default=4, help="answers requested per class (4)")
    parser.add_argument("--tries", type=int, default=8, help="requests per answer (8)")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds before the 2nd (1.0)")


def _write_features(args: argparse.Namespace, names: list[str]) -> int:
    from slowfast.analysis.text_prompts.features import load_clip, prompt_features
    from slowfast.analysis.text_prompts.store import match_classes, read_classes
    from slowfast.models.weights.write import write_archive
    from slowfast.utils.files import write_atomic

    entries = match_classes(names, read_classes(args.prompts), args.prompts)
    features = prompt_features(load_clip(args.clip), names, entries)
    write_atomic(args.out, lambda temporary: write_archive(features, temporary))
    print(f"{args.out}: {' x '.join(map(str, features.shape))}")
    return 0


def _write_texts(args: argparse.Namespace, names: list[str]) -> int:
    from slowfast.analysis.text_prompts import stages
    from slowfast.analysis.text_prompts.service import ChatService, read_settings
    from slowfast.analysis.text_prompts.store import ClassStore, match_classes, read_classes

    if args.what == "askg":
        messages, parse = stages.graph_messages, stages.parse_graph
    else:
        graphs = dict(zip(names, match_classes(names, read_classes(args.askg), args.askg)))

        def messages(name: str) -> list[dict]:
            return stages.prompt_messages(name, graphs[name])

        def parse(text: str, name: str) -> dict:
            return stages.parse_prompts(text, name, graphs[name])

    key, url = read_settings(ENV_FILE)
    service = ChatService(key, url, args.model, args.tries, args.pause)
    store = ClassStore(args.out)
    failed = stages.write_stage(service, store, names, messages, parse, args.attempts)
    for name, reason in failed.items():
        print(f"no usable answer for {name}: {reason}", file=sys.stderr)
    print(f"{args.out}: {len(store.entries)} classes")
    return 1 if failed else 0


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.datasets.classnames import read_class_names
    from slowfast.utils.errors import UserError
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.paths import prepare_outputs

    setup_logging(None)
    needed = {"xprompt": ("askg",), "features": ("prompts", "clip")}.get(args.what, ())
    for name in needed:
        if not getattr(args, name):
            raise UserError(f"{args.what} needs it", "see --help", f"--{name}")
    sources = [args.classes, args.askg, args.prompts, args.clip, ENV_FILE]
    prepare_outputs([args.out], filter(None, sources))
    names = read_class_names(args.classes, "CLASSES")
    return _write_features(args, names) if args.what == "features" else _write_texts(args, names)
