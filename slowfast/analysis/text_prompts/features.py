"""Features of the sentences of every class: ``K n D``, for DATA.TEXT_AUG_FEATURE_FILE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from slowfast.analysis.text_prompts.stages import PROMPTS
from slowfast.analysis.text_prompts.store import Entry
from slowfast.models.clip import texts
from slowfast.models.clip.names import read_clip
from slowfast.models.clip.sizes import infer_sizes
from slowfast.models.clip.towers import CLIP
from slowfast.utils.errors import UserError
from slowfast.utils.progress import ProgressBar

TEMPLATES = texts.TEMPLATES[:8]  # "tpl8" of the released files


def load_clip(path: str) -> CLIP:
    """A CLIP from any supported file, for its text tower."""
    state = read_clip(path, "--clip")
    sizes = infer_sizes(state)
    if not sizes.text_layers:
        raise UserError(f"{path} has no text tower", "name the whole CLIP", "--clip")
    network = CLIP(sizes)
    own = network.state_dict()
    network.load_state_dict({name: state[name] for name in own if name in state})
    return network.eval()


def sentences(name: str, entry: Entry) -> list[str]:
    """The class in each of its contexts ("xmix": all three groups)."""
    prompts = [text for field in PROMPTS for text in entry.get(field) or ()]
    if not prompts:
        raise UserError(f"{name!r} has no prompts", "make them with text_prompts.py xprompt")
    return [f"{name}, {prompt.strip().rstrip('.')}" for prompt in prompts]


def prompt_features(
    network: CLIP,
    names: Sequence[str],
    entries: Sequence[Entry],
    templates: Sequence[str] = TEMPLATES,
) -> torch.Tensor:
    """Features ``K n D``: of every sentence the mean over templates. Classes with fewer sentences
    repeat theirs, up to the longest."""
    found = []
    progress = ProgressBar("text features", len(names), 10)
    for number, (name, entry) in enumerate(zip(names, entries), 1):
        tokens = texts.fill_templates(templates, sentences(name, entry), network.sizes.context)
        states = texts.encode(network, tokens)
        with torch.no_grad():
            found.append(texts.mean_features(states, network.text_projection))
        progress.update(number, name)
    progress.close()
    longest = max(map(len, found))
    padded = [features[torch.arange(longest) % len(features)] for features in found]
    return F.normalize(torch.stack(padded), dim=-1)
