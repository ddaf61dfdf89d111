"""The two stages of text augmentation: what is asked, and what counts as an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import yaml

from slowfast.analysis.text_prompts.service import ChatService, Message
from slowfast.analysis.text_prompts.store import ClassStore, Entry
from slowfast.utils.logging import get_logger
from slowfast.utils.progress import ProgressBar
from slowfast.utils.yaml_text import BadYaml, load_yaml

logger = get_logger(__name__)

# Fields of the graph, and those of the sentences made of each group of triples.
LISTS = ("obj_en_li", "sub_act_en_li")
TRIPLES = ("obj_rel_triples", "act_obj_triples", "act_rel_triples")
PROMPTS = ("xprompt_oo", "xprompt_ao", "xprompt_aa")
_FENCE = "```"
_LONGEST_ANSWER = 100_000  # characters; an answer of use has a few thousand
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_TRIPLE = re.compile(r"<[^<>,]+,[^<>,]+,[^<>]+>")

_GRAPH_RULES = """You describe human actions as small graphs of knowledge. For the action that the \
user names, work in this order:
1. list the objects that take part (obj_en_li), body parts included;
2. say how pairs of these objects relate, as triples <object, relation, object> (obj_rel_triples);
3. say how the action relates to each object, as triples <action, relation, object> \
(act_obj_triples);
4. list the sub-actions in the order in which they happen, naming few objects (sub_act_en_li);
5. say how the action and its sub-actions follow each other, as triples \
<sub-action, relation, sub-action> (act_rel_triples).
Answer with YAML alone: the action as the root, below it label and these five lists."""

_GRAPH_EXAMPLE = """watering plants:
  label: watering plants
  obj_en_li:
  - watering can
  - water
  - plant
  - soil
  obj_rel_triples:
  - <watering can, holds, water>
  - <water, soaks into, soil>
  - <plant, grows in, soil>
  act_obj_triples:
  - <watering plants, uses, watering can>
  - <watering plants, needs, water>
  - <watering plants, is done for, plant>
  sub_act_en_li:
  - filling the can
  - tilting the can
  - putting the can down
  act_rel_triples:
  - <watering plants, starts with, filling the can>
  - <filling the can, precedes, tilting the can>
  - <tilting the can, precedes, putting the can down>"""

_PROMPT_RULES = """You complete the sentence "This is an example of {action}, ..." once for every \
triple that the user gives, in natural English, so that the completion says what the triple says. \
Answer with YAML alone: the action as the root, below it label and the lists xprompt_oo (from \
obj_rel_triples), xprompt_ao (from act_obj_triples) and xprompt_aa (from act_rel_triples), each \
with one completion per triple, in their order, without the beginning of the sentence."""

_PROMPT_EXAMPLE = """watering plants:
  label: watering plants
  xprompt_oo:
  - where a watering can holds water
  - where water soaks into the soil
  - where a plant grows in the soil
  xprompt_ao:
  - which uses a watering can
  - which needs water
  - which is done for a plant
  xprompt_aa:
  - starting with filling the can
  - where filling the can precedes tilting the can
  - where tilting the can comes before putting the can down"""


class BadAnswer(ValueError):
    """An answer that is not what was asked for."""


def graph_messages(name: str) -> list[Message]:
    """The conversation that asks for the graph of a class."""
    return [
        {"role": "system", "content": _GRAPH_RULES},
        {"role": "user", "content": "watering plants"},
        {"role": "assistant", "content": _GRAPH_EXAMPLE},
        {"role": "user", "content": name},
    ]


def prompt_messages(name: str, graph: Entry) -> list[Message]:
    """The conversation that asks for the sentences of a class."""
    example = yaml.safe_load(_GRAPH_EXAMPLE)["watering plants"]
    return [
        {"role": "system", "content": _PROMPT_RULES},
        {"role": "user", "content": _triples_of("watering plants", example)},
        {"role": "assistant", "content": _PROMPT_EXAMPLE},
        {"role": "user", "content": _triples_of(name, graph)},
    ]


def _triples_of(name: str, graph: Entry) -> str:
    return yaml.safe_dump(
        {name: {field: graph[field] for field in TRIPLES}}, sort_keys=False, width=1000
    )


def parse_graph(text: str, name: str) -> Entry:
    """An answer as a graph; BadAnswer says what is wrong with it."""
    entry = _parse(text, name, (*LISTS, *TRIPLES))
    for field in TRIPLES:
        wrong = [triple for triple in entry[field] if not _TRIPLE.fullmatch(triple)]
        if wrong:
            raise BadAnswer(f"{field} holds {wrong[0]!r}, which is no triple <a, b, c>")
    return {"label": name} | {
        field: entry[field] for field in ("obj_en_li", *TRIPLES[:2], "sub_act_en_li", TRIPLES[2])
    }


def parse_prompts(text: str, name: str, graph: Entry) -> Entry:
    """An answer as sentences, one for each triple; BadAnswer says what is wrong with it."""
    entry = _parse(text, name, PROMPTS)
    for field, triples in zip(PROMPTS, TRIPLES):
        given, wanted = len(entry[field]), len(graph[triples])
        if given != wanted:
            raise BadAnswer(f"{field} holds {given} completions for {wanted} triples")
    return {"label": name} | {field: entry[field] for field in PROMPTS}


def _without_fence(text: str) -> str:
    """What stands between ``` or ```yaml, which ends its line, and the next ```; else all of it."""
    start = text.find(_FENCE)
    while start >= 0:
        kind, line_end, content = text[start + len(_FENCE) :].partition("\n")
        if line_end and kind.strip() in ("", "yaml", "yml"):
            return content.partition(_FENCE)[0]
        start = text.find(_FENCE, start + len(_FENCE) + len(kind))
    return text


def _parse(text: str, name: str, fields: Sequence[str]) -> Entry:
    if len(text) > _LONGEST_ANSWER:
        raise BadAnswer(f"the answer has {len(text)} characters")
    if not text.isascii() and _SURROGATE.search(text):
        raise BadAnswer("the answer is no valid text")
    try:
        content = load_yaml(_without_fence(text))
    except BadYaml as error:
        raise BadAnswer(f"the answer is no YAML: {error}") from None
    if isinstance(content, dict) and not set(fields) <= set(content) and len(content) == 1:
        content = next(iter(content.values()))
    if not isinstance(content, dict):
        raise BadAnswer("the answer holds no fields")
    for field in fields:
        texts = content.get(field)
        if not (isinstance(texts, list) and texts):
            raise BadAnswer(f"{field} is missing or empty")
        if not all(isinstance(t, str) and t.strip() for t in texts):
            raise BadAnswer(f"{field} holds something that is no text")
        content[field] = [" ".join(t.split()) for t in texts]
    return content


def write_stage(
    service: ChatService,
    store: ClassStore,
    names: Sequence[str],
    messages: Callable[[str], list[Message]],
    parse: Callable[[str, str], Entry],
    attempts: int,
) -> dict[str, str]:
    """Ask for every class that the store lacks; class -> reason where no answer was of use."""
    missing = [name for name in names if name not in store]
    logger.info("%s: %d of %d classes are there", store.path, len(names) - len(missing), len(names))
    failed: dict[str, str] = {}
    progress = ProgressBar("classes", len(missing), 10)
    for number, name in enumerate(missing, 1):
        try:
            store.add(name, _ask(service, messages(name), name, parse, attempts))
        except BadAnswer as error:
            failed[name] = str(error)
        progress.update(number, name)
    progress.close()
    return failed


def _ask(
    service: ChatService,
    messages: list[Message],
    name: str,
    parse: Callable[[str, str], Entry],
    attempts: int,
) -> Entry:
    """Ask again, saying what was wrong, until an answer can be used; BadAnswer in the end."""
    for number in range(attempts):
        text = service.ask(messages)
        try:
            return parse(text, name)
        except BadAnswer as error:
            logger.warning("%s: %s", name, error)
            if number + 1 == attempts:
                raise
            complaint = f"That cannot be used: {error}. Answer again, with YAML alone."
            messages = [
                *messages,
                {"role": "assistant", "content": text},
                {"role": "user", "content": complaint},
            ]
    raise BadAnswer("was not asked for")
