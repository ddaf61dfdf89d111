"""FSDP2 for every registered network: it can be divided, and computes what one process does."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from slowfast.engine import sharding
from slowfast.models.base import resolve_aux_losses
from slowfast.models.build import set_train_mode
from slowfast.models.clip.regularizers import InterpolatedWeights
from slowfast.models.spec import ModelSpec
from tests.engine.test_sharding import FSDP, on_two_processes
from tests.models.helpers import VARIANTS, build, clips, to_eval


def divided(network: nn.Module, world: int) -> nn.Module:
    runtime = SimpleNamespace(world=world, device=torch.device("cpu"), on_gpu=False)
    return sharding.shard(FSDP, runtime, network)


# -- every network, without numbers --------------------------------------------------------------


@pytest.fixture(scope="module")
def fake_group():
    """Two processes, of which the other one does nothing: values are wrong, shapes are not."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


def assert_divided(network: nn.Module) -> None:
    groups = [m for m in network.modules() if isinstance(m, FSDPModule)]
    assert groups[0] is network
    for block in groups[1:]:  # no groups inside of groups, and none of a single layer
        assert sum(isinstance(m, FSDPModule) for m in block.modules()) == 1
        assert any(True for _ in block.children())
    for name, parameter in network.named_parameters():
        assert isinstance(parameter, DTensor) == (parameter.ndim > 0), name


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_every_network_can_be_divided(fake_group, name, extra):
    """Training, gathered evaluation, training again."""
    cfg, network = build(name, extra)
    before = {key: value.shape for key, value in network.state_dict().items()}
    network = divided(network, 2)
    assert_divided(network)
    for _ in range(2):
        with sharding.gathered(network):
            network.begin("train")
        network.train()
        scores, losses = network(clips(cfg), with_losses=True)
        losses = resolve_aux_losses(losses, lambda logits: logits.square().mean())
        (scores.square().mean() + sum(losses.values())).backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is None or parameter.grad.shape == parameter.shape, key
        with sharding.gathered(network), torch.inference_mode():
            assert to_eval(network)(clips(cfg)).shape == (2, 5)
        assert_divided(network)
    after = sharding.full_model_state(network)
    assert {key: value.shape for key, value in after.items()} == before


class Pieces(nn.Module):
    """Lists inside of lists, single layers, shared and repeated blocks."""

    spec = ModelSpec(full_precision=lambda model: [model.exact])

    def __init__(self):
        super().__init__()

        def block(*more):
            return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), *more)

        self.stages = nn.ModuleList([nn.ModuleList([block(block())]), nn.ModuleList([block()])])
        self.norms = nn.ModuleList([block(nn.BatchNorm1d(4))])
        self.exact = nn.ModuleList([block()])
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        shared = block()
        self.repeated = nn.ModuleList([shared, shared])
        tied = nn.ModuleList([block(), block()])
        tied[1][0].weight = tied[0][0].weight
        self.tied = tied
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for (stage,) in self.stages:
            x = stage(x)
        for block in (*self.norms, *self.exact, *self.repeated, *self.tied):
            x = block(x)
        return self.layers(x) * self.scale


def test_blocks_are_the_outermost_parts_that_stand_alone(fake_group):
    network = Pieces()
    wanted = [network.stages[0][0], network.stages[1][0], network.norms[0], network.exact[0]]
    assert sharding.blocks(network) == wanted
    mesh = init_device_mesh("cpu", (2,))
    network = sharding.divide(network, mesh, torch.bfloat16)
    assert_divided(network)
    with torch.autocast("cpu"):
        network(torch.ones(3, 4)).sum().backward()
    # Batch normalisation, parts of full precision, and the rest stay in float32.
    dtypes = []
    with sharding.gathered(network):
        for module in (*wanted, network.tied[0]):
            dtypes.append(next(module.parameters()).dtype)
    assert dtypes == [torch.bfloat16] * 2 + [torch.float32] * 3
    assert next(network.parameters()).dtype == torch.float32  # what is kept and updated


# -- numbers --------------------------------------------------------------------------------------

CLIP = "TemporalClipVideo"
COMPARED = {
    "resnet": ("ResNet3D", {}),
    "tsn": ("TSN", {}),
    "uniformer": ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    "mvit": ("MViT", {}),
    "clip": (CLIP, {}),
    "copy": (CLIP, {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True}),
    "text": (CLIP, {"CLIP.TRAINED": ["visual", "text_projection", "text", "logit_scale"]}),
    "linear": (CLIP, {"CLIP.TRAINED": ["visual", "text_projection", "logit_scale"]}),
}


def states(kind: str, rank: int, world: int, folder: str) -> tuple[dict, torch.Tensor]:
    """(state, scores) after two steps, each with two batches per process, on the whole of 4
    times 2 clips; the gradient is clipped."""
    name, extra = COMPARED[kind]
    extra = extra | {"UNIFORMER.DROP_DEPTH_RATE": 0.0, "CLIP.TEXT_CACHE": folder}
    cfg, network = build(name, extra)
    if kind == "linear":
        originals = {k: v + 0.01 for k, v in network.model.state_dict().items()}
        network.interpolation = InterpolatedWeights(originals, 0.5, 0.5, 0.5)
        network.interpolation.restrict_to(dict(network.model.named_parameters()))
    if name == CLIP:
        network.texts.forget()  # to be encoded by the divided tower, before any forward pass
    network = divided(network, world)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-3)
    parts = [p for p in range(4) if p * world // 4 == rank]
    for step in range(2):
        with sharding.gathered(network):
            network.begin("train")
        set_train_mode(network, frozen_bn=True)
        video, labels = clips(cfg, 8, seed=step), torch.arange(8) % 5
        for part in parts:
            rows = slice(2 * part, 2 * part + 2)
            last = part == parts[-1]
            with contextlib.nullcontext() if last else sharding.without_sync(network):
                _loss(network, video[rows], labels[rows]).div(len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        with sharding.gathered(network), torch.inference_mode():
            scores = to_eval(network)(video[: 2 + rank])  # ranks may differ in number
    return sharding.full_model_state(network), scores[:2]


def _loss(network: nn.Module, video: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    scores, losses = network(video, with_losses=True)
    losses = resolve_aux_losses(losses, lambda logits: F.cross_entropy(logits, labels))
    return F.cross_entropy(scores, labels) + sum(losses.values())


def _compare(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    for kind in COMPARED:
        torch.save(states(kind, rank, 2, f"{folder}/texts"), f"{folder}/{kind}{rank}.pth")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("divided")
    on_two_processes(_compare, folder)
    return folder


@pytest.mark.parametrize("kind", COMPARED)
def test_two_processes_are_one(results, kind):
    texts = set((results / "texts").iterdir())
    one, scores = states(kind, 0, 1, str(results / "texts"))
    assert set((results / "texts").iterdir()) == texts  # found those that divided towers encoded
    two, two_scores = torch.load(results / f"{kind}0.pth", weights_only=True)
    assert torch.load(results / f"{kind}1.pth", weights_only=True)[0] == {}
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.shape == two[name].shape
        pair = value.float(), two[name].float()
        if name.endswith("in_proj_bias"):
            # The bias of keys has no gradient but rounding, which AdamW makes a step of full size.
            pair = tuple(torch.cat([bias.chunk(3)[0], bias.chunk(3)[2]]) for bias in pair)
        assert torch.allclose(*pair, atol=2e-5), name
    assert torch.allclose(scores, two_scores, atol=1e-3)


def _measure(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    network = nn.Module()
    network.spec = ModelSpec()
    network.blocks = nn.ModuleList(nn.Sequential(nn.Linear(1024, 1024)) for _ in range(24))
    network = divided(network, 2)  # 96 MiB, half of them here
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = sharding.full_model_state(network)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(folder, f"{rank}").write_text(f"{len(state)} {(after - before) / 1024}")
    dist.destroy_process_group()
    os._exit(0)


def test_a_checkpoint_is_gathered_on_one_process(tmp_path):
    on_two_processes(_measure, tmp_path)
    (count, here), (none, there) = (map(float, (tmp_path / r).read_text().split()) for r in "01")
    assert count == 48 and none == 0
    assert here > 40 and there < 20, (here, there)
