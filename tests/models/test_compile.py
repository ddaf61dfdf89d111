"""Every registered model as one graph: training, evaluation, any number of clips."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounterWithBackend

from tests.models.helpers import VARIANTS, build, clips, to_eval

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


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_one_graph_for_training(name, extra):
    """Forward and backward under autocast; another number of clips needs no other graph."""
    cfg, model = build(name, extra)
    with graphs("aot_eager") as counter:
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        for video in batches(cfg):
            model.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, losses = compiled(video, with_losses=True)
            loss = logits.float().square().mean()
            loss.backward()
            assert torch.isfinite(loss)
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert any(p.grad is not None for p in learnt)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_one_graph_for_evaluation(name, extra):
    """Compiled scores are those of the network itself, for batches of two sizes."""
    cfg, model = build(name, extra)
    to_eval(model)
    with graphs("eager") as counter, torch.inference_mode():
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        for video in batches(cfg):
            assert torch.allclose(compiled(video), model(video), atol=1e-5)
    assert counter.frame_count == 1
