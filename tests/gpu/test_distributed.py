"""On a real GPU: NCCL with one rank, FSDP2 with lower precision for every family, compilation."""

from __future__ import annotations

import copy
import ctypes
import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from slowfast.engine import sharding
from slowfast.engine.compilation import REDUCE_OVERHEAD, compile_forward
from slowfast.layers.attention import Attention
from slowfast.models.base import resolve_aux_losses
from slowfast.utils import distributed
from slowfast.utils.distributed import ProcessInfo, gather_numbers, whole
from slowfast.utils.runtime import choose_device, cudnn_version, device_identity, gpu_count
from tests.models.helpers import NAMES, build, clips, to_eval
from tests.utils.test_distributed import free_port

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU = torch.device("cuda", 0)
CLIP = "TemporalClipVideo"
FAMILIES = [
    *[(name, {}) for name in NAMES],
    ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    (CLIP, {"CLIP.TRAINED": ["visual", "text_projection", "text", "logit_scale"]}),
    (CLIP, {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True}),
]


@pytest.fixture(scope="module")
def group():
    """A process group of one rank, NCCL on the GPU and gloo on the CPU, as a run has it."""
    device = choose_device(1)
    store = dist.TCPStore("localhost", free_port(), 1, True)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl", store=store, rank=0, world_size=1, device_id=device
    )
    yield init_device_mesh("cuda", (1,))
    dist.destroy_process_group()


def on_gpu(name: str, extra: dict) -> tuple:
    cfg, network = build(name, extra | {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    return cfg, network.to(GPU)


def step(model, video: torch.Tensor) -> float:
    """Forward and backward pass in bfloat16 on fixed labels; the loss."""
    labels = torch.arange(len(video), device=GPU) % 5
    with torch.autocast("cuda", torch.bfloat16):
        scores, losses = model(video, with_losses=True)
        losses = resolve_aux_losses(losses, lambda logits: F.cross_entropy(logits, labels))
        loss = F.cross_entropy(scores.float(), labels) + sum(losses.values())
    loss.backward()
    return loss.item()


def test_the_environment():
    assert device_identity(GPU) and gpu_count() >= 1
    assert cudnn_version() >= (9,)


def test_numbers_go_through_the_cpu(group):
    assert gather_numbers([1, 2.5]) == [[1, 2.5]]
    tensor = torch.ones(3, device=GPU)
    dist.all_reduce(tensor)
    assert tensor.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name, extra", FAMILIES)
def test_divided_in_lower_precision(group, name, extra):
    """Blocks are gathered in bfloat16; loss and gradient are those of autocast alone."""
    cfg, network = on_gpu(name, extra)
    plain = copy.deepcopy(network)
    network = sharding.divide(network, group, torch.bfloat16)
    video = clips(cfg, 4).to(GPU)
    torch.manual_seed(0)
    with sharding.gathered(network):
        network.begin("train")
    mine = step(network, video)
    plain.begin("train")
    torch.manual_seed(0)
    theirs = step(plain, video)
    assert mine == pytest.approx(theirs, rel=0.05, abs=0.02)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3, fused=True)
    norm = whole(torch.nn.utils.clip_grad_norm_(trained, 1.0))
    other = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    if "stcross" not in str(extra) and name != CLIP:  # draws patches
        assert norm.item() == pytest.approx(other.item(), rel=0.1, abs=0.02)
    before = [whole(p.detach()).clone() for p in trained]
    optimizer.step()
    assert all(p.dtype == torch.float32 for p in trained)
    assert any(not torch.equal(whole(p.detach()), b) for p, b in zip(trained, before))
    with sharding.gathered(network), torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        assert to_eval(network)(video).isfinite().all()
    state = sharding.full_model_state(network)
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert all(value.device.type == "cpu" for value in state.values())


def test_loss_scaling_of_a_divided_network(group):
    """float16: single numbers and divided parameters are unscaled and skipped together."""
    cfg, network = on_gpu(CLIP, FAMILIES[-2][1])
    network = sharding.divide(network, group, torch.float16)
    with sharding.gathered(network):
        network.begin("train")
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3, fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0)
    before = [whole(p.detach()).clone() for p in trained]
    for factor in (float("inf"), 1.0):
        with torch.autocast("cuda", torch.float16):
            loss = network(clips(cfg, 2).to(GPU)).float().square().mean() * factor
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        changed = any(not torch.equal(whole(p.detach()), b) for p, b in zip(trained, before))
        assert changed == (factor == 1.0)


def test_accumulation_in_ddp(group):
    cfg, network = on_gpu("Uniformer", {})
    network.eval()
    plain = copy.deepcopy(network)
    model = DistributedDataParallel(network, device_ids=[0], gradient_as_bucket_view=True)
    video = clips(cfg, 4).to(GPU)
    with sharding.without_sync(model):
        step(model, video[:2])
    step(model, video[2:])
    for part in (video[:2], video[2:]):
        step(plain, part)
    pairs = zip(network.parameters(), plain.parameters())
    for mine, theirs in pairs:
        if theirs.grad is not None:
            assert torch.allclose(mine.grad, theirs.grad, rtol=0.05, atol=1e-2)


@pytest.mark.parametrize("kind", [True, REDUCE_OVERHEAD])
def test_compiled(kind):
    """Inductor: training and evaluation with batches of several sizes; outputs stay valid."""
    torch.compiler.reset()
    cfg, network = on_gpu("FrameAverage", {})
    plain = copy.deepcopy(network)
    compile_forward([network], kind)
    video = clips(cfg, 6).to(GPU)
    losses = [
        [step(model.train(), video[:n]) for n in (4, 4, 4, 3, 6)] for model in (network, plain)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05, abs=0.02)
    for mine, theirs in zip(network.parameters(), plain.parameters()):
        assert torch.allclose(mine.grad, theirs.grad, rtol=0.05, atol=2e-2)
    network.eval(), plain.eval()
    with torch.inference_mode():
        outputs = [network(video[:n]) for n in (4, 4, 2, 1)]
        for output, n in zip(outputs, (4, 4, 2, 1)):  # none was overwritten
            assert torch.allclose(output, plain(video[:n]), atol=1e-2)


def test_divided_and_compiled(group):
    torch.compiler.reset()
    cfg, network = on_gpu("STAM", {})
    plain = copy.deepcopy(network)
    network = sharding.divide(network, group, torch.bfloat16)
    compile_forward(
        [m for m in network.modules() if isinstance(m, FSDPModule) and m is not network], True
    )
    video = clips(cfg, 4).to(GPU)
    for size in (4, 3):
        assert step(network, video[:size]) == pytest.approx(
            step(plain, video[:size]), rel=0.05, abs=0.02
        )


def test_attention_beyond_the_limit_of_the_kernel():
    """TimeSformer's places are part of the batch of its temporal attention: more than 65535."""
    layer = Attention(64, 1).to(GPU).eval()
    x = torch.randn(65536 + 8, 4, 64, device=GPU)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        assert torch.allclose(layer(x)[-8:], layer(x[-8:]), atol=2e-2)


def _wait_for_the_gpu(rank: int, port: int, log: str) -> None:
    """Rank 0 waits for its GPU, which computes for a minute."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 2)
    distributed.start_process(
        0, "nccl", ProcessInfo(rank, 2, rank, 2, f"tcp://localhost:{port}"), 30
    )
    if rank:
        time.sleep(2)
        os.kill(os.getpid(), 9)
    torch.cuda._sleep(int(60 * 1.5e9))
    torch.ones(1, device="cuda").item()
    ctypes.CDLL(None).sleep(60)


def test_a_lost_rank_ends_a_process_that_waits_for_its_gpu(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    port, log = free_port(), str(tmp_path / "log")
    processes = [context.Process(target=_wait_for_the_gpu, args=(r, port, log)) for r in range(2)]
    for process in processes:
        process.start()
    processes[1].join(60)
    start = time.monotonic()
    processes[0].join(30)
    for process in processes:
        process.kill()
    assert processes[0].exitcode == 1 and time.monotonic() - start < 15
    assert "rank 1 of 2 stopped answering" in Path(log).read_text()
