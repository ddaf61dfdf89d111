"""Networks on a GPU: the numbers of the CPU, and the kernels that are meant."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.layers.attention import MAX_BATCH, attend
from slowfast.layers.conv import DepthwiseConv3d
from tests.models.helpers import build, clips, to_eval

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STFM = {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}
SUB_BATCHES = {"BN.NORM_TYPE": "sub_batchnorm", "BN.NUM_SPLITS": 2}
NON_LOCAL = {"MODEL.ARCH": "i3d", "NONLOCAL.LOCATION": [[[]], [[1]], [[]], [[]]]}
FAMILIES = [
    ("Uniformer", {"UNIFORMER.DROP_DEPTH_RATE": 0.0}),
    ("Uniformer", {"UNIFORMER.DROP_DEPTH_RATE": 0.0, **STFM}),
    ("TimeSformer", {}),
    ("TimeSformer", STFM),
    ("MViT", {}),
    ("MViT", {"MVIT.CLS_EMBED_ON": False}),
    ("STAM", {}),
    ("TSN", {"TSN.CONSENSUS": "LSTM"}),
    ("ResNet3D", {}),
    ("ResNet", NON_LOCAL),
    ("ResNet", {"MODEL.ARCH": "c2d", "RESNET.TRANS_FUNC": "basic_transform"}),
    ("SlowFast", {}),
    ("SlowFast", SUB_BATCHES | {"DATA.TRAIN_CROP_SIZE": 64}),
    ("X3D", {}),
    ("ReversibleMViT", {}),
    ("TemporalClipVideo", {}),
]
CONVOLUTIONAL = ("TSN", "ResNet3D", "ResNet", "SlowFast", "X3D")
ATTENTION = [family for family in FAMILIES if family[0] not in CONVOLUTIONAL]


@pytest.fixture(autouse=True)
def exact_float32():
    """Without TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def scores_and_gradients(name, extra, device, half, fixed_statistics):
    """Logits, and the norm of the gradient of each parameter. In bfloat16 with fixed statistics:
    batch normalisation over the few values of a tiny clip makes much of a rounding."""
    cfg, model = build(name, extra)
    model.to(device).train()
    model.begin("train")
    if fixed_statistics:
        for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
            norm.eval()
    video = clips(cfg).to(device)
    torch.manual_seed(0)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        logits = model(video)
    logits.float().square().mean().backward()
    gradients = {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}
    return logits.float().detach().cpu(), gradients


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name, extra", FAMILIES)
def test_a_gpu_gives_the_numbers_of_the_cpu(name, extra, half):
    selects = "STFM.ENABLE" in extra  # another rounding may select another patch
    expected, cpu = scores_and_gradients(name, extra, "cpu", False, fixed_statistics=half)
    found, gpu = scores_and_gradients(name, extra, "cuda", half, fixed_statistics=half)
    error = (found - expected).norm() / expected.norm()
    assert error < (0.1 if half else 0.02 if selects else 1e-3)
    assert gpu.keys() == cpu.keys()
    if not (half or selects):
        largest = max(cpu.values())
        for parameter, norm in cpu.items():
            assert abs(gpu[parameter] - norm) < 1e-2 * norm + 1e-4 * largest, parameter


@pytest.mark.parametrize("name, extra", ATTENTION)
def test_attention_takes_the_flash_kernel(name, extra):
    """In bfloat16, forward and backward; any other kernel would raise."""
    cfg, model = build(name, extra)
    model.cuda().train()
    model.begin("train")
    if name == "STAM":  # its transformer over frames is PyTorch's own
        model.aggregate = torch.nn.Identity()
        model.forward_features = lambda video: model.frame_features(video).mean(1)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.autocast("cuda", dtype=torch.bfloat16):
        model(clips(cfg).cuda()).float().square().mean().backward()


def peak_memory(depth, reversible):
    """Bytes of the GPU at the peak of forward and backward, beyond those before."""
    extra = {"MVIT.DEPTH": depth, "DATA.NUM_FRAMES": 8, "DATA.TRAIN_CROP_SIZE": 64}
    cfg, model = build("ReversibleMViT", extra)
    model.cuda().train()
    model.stored_activations = not reversible
    video = clips(cfg, 16).cuda()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        model(video).float().square().mean().backward()
    return torch.cuda.max_memory_allocated() - before


def test_memory_of_reversible_blocks():
    """Twelve more blocks of the last stage need little beyond what four need; stored, they do."""
    peaks = {(d, r): peak_memory(d, r) for d in (4, 16) for r in (True, False)}
    assert peaks[16, True] < 1.2 * peaks[4, True], peaks
    assert peaks[16, False] > 1.5 * peaks[4, False], peaks


@pytest.mark.parametrize("half", [False, True])
def test_more_problems_than_a_kernel_takes(half):
    count, dtype = MAX_BATCH + 9, torch.bfloat16 if half else torch.float32
    torch.manual_seed(0)
    q, k, v = (torch.randn(count, 1, 8, 16, device="cuda", dtype=dtype) for _ in range(3))
    q.requires_grad_()
    out = attend(q, k, v)
    out.float().square().sum().backward()
    last = q.detach()[-9:].float().cpu().requires_grad_()
    expected = attend(last, k[-9:].float().cpu(), v[-9:].float().cpu())
    expected.square().sum().backward()
    tolerance = 3e-2 if half else 1e-4
    assert (out[-9:].float().cpu() - expected).abs().max() < tolerance
    assert (q.grad[-9:].float().cpu() - last.grad).abs().max() < 3 * tolerance


def test_own_depthwise_gradients_on_a_gpu(monkeypatch):
    """The form that the CPU uses is right on a GPU, too, if it is ever chosen there."""
    torch.manual_seed(0)
    layer = DepthwiseConv3d(64, 5).cuda()
    x = torch.randn(2, 64, 4, 8, 8, device="cuda", requires_grad=True)
    inputs, results = [x, *layer.parameters()], []
    for devices in ({"cpu"}, {"cpu", "cuda"}):
        monkeypatch.setattr("slowfast.layers.conv.OWN_GRADIENT_DEVICES", devices)
        results.append(torch.autograd.grad(layer(x).square().sum(), inputs))
    for plain, own in zip(*results):
        assert (plain - own).norm() < 1e-4 * plain.norm()


@pytest.mark.parametrize("name, extra", FAMILIES)
def test_one_graph_on_a_gpu(name, extra):
    cfg, model = build(name, extra)
    to_eval(model.cuda())
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True), torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        video = clips(cfg).cuda()
        assert torch.allclose(compiled(video), model(video), atol=1e-4)
