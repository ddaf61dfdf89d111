"""Every registered model as one graph: training, evaluation, any number of clips."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounterWithBackend

from tests.models.helpers import NAMES, VARIANTS, build, clips, to_eval

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@contextlib.contextmanager
def graphs(backend):
    """A backend that counts the graphs it gets, with nothing compiled before.

    PyTorch breaks the graph at its own recurrent layers unless told otherwise.
    """
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        yield CompileCounterWithBackend(backend)


def batches(cfg):
    """Batches of two sizes whose first dimension may change."""
    for size in (2, 3):
        video = clips(cfg, size)
        torch._dynamo.mark_dynamic(video, 0)
        yield video


def train(model, compiled, video):
    """Forward under autocast, and backward."""
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, losses = compiled(video, with_losses=True)
    logits.float().square().mean().backward()
    assert torch.isfinite(logits).all()
    assert any(p.grad is not None for p in model.parameters())


# Of each network one, and what has broken graphs: recurrent heads, texts, the choice of tokens.
_RECURRENT = ("RNN_TANH", "LSTM", "GRU", "BLSTM", "CONVLSTM")
CHOSEN = [
    (name, extra)
    for name, extra in VARIANTS
    if not extra
    or extra.get("TSN.CONSENSUS") in _RECURRENT
    or extra.get("STFM.SELECTION") == "straight_through"
    or extra.keys() & {"CLIP.TRAINED", "MODEL.TEXT_PROMPT"}
]


@pytest.mark.parametrize("name, extra", CHOSEN)
def test_one_graph_each(name, extra):
    """One for training and one for evaluation, which another number of clips does not change."""
    cfg, model = build(name, extra)
    with graphs("eager") as counter:
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        for video in batches(cfg):
            train(model, compiled, video)
        assert counter.frame_count == 1
    to_eval(model)
    with graphs("eager") as counter, torch.inference_mode():
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        for video in batches(cfg):
            assert torch.allclose(compiled(video), model(video), atol=1e-5)
        assert counter.frame_count == 1


@pytest.mark.parametrize("name", NAMES)
def test_one_graph_with_its_backward_pass(name):
    """AOTAutograd traces the gradients as well."""
    cfg, model = build(name)
    with graphs("aot_eager") as counter:
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        train(model, compiled, clips(cfg))
        assert counter.frame_count == 1
