"""Steps on a real GPU: nothing waits, bits come again, what is not finite is skipped or named."""

from __future__ import annotations

import contextlib
import copy
import signal
from collections.abc import Iterator

import pytest
import torch
from timm.utils import ModelEmaV3
from torch.utils._pytree import tree_leaves

from slowfast.config.load import load_config
from slowfast.datasets.batch import Batch
from slowfast.engine.launch import launch
from slowfast.engine.optim import build_optimizer, skips_on_device
from slowfast.engine.precision import build_autocast, compute_dtype
from slowfast.engine.prefetch import on_device
from slowfast.engine.run import run_job
from slowfast.engine.step import OptimizerStep
from slowfast.engine.tasks import task_class
from slowfast.engine.train import Trainer
from slowfast.models import MODEL_REGISTRY
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import Interrupted, UserError
from slowfast.utils.runtime import Runtime, gpu_count
from slowfast.utils.transfer import HostCopy
from tests.conftest import words
from tests.engine.test_step import Classify, Line, batches
from tests.fake_cuda import fake_batch
from tests.fewshot import TINY_FEWSHOT
from tests.models.helpers import NAMES

pytestmark = pytest.mark.skipif(gpu_count() == 0, reason="no GPU")
GPU = Runtime(torch.device("cuda", 0))
SUB_BATCHES = {"BN.NORM_TYPE": "sub_batchnorm", "BN.NUM_SPLITS": 2}
NON_LOCAL = {"MODEL.ARCH": "i3d", "NONLOCAL.LOCATION": [[[]], [[1]], [[]], [[]]]}
TSN_HEADS = ("TRNmultiscale", "LSTM", "Transformer", "FCN2D")


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """A context in which an operator that makes the host wait for the GPU is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def recognition(name: str, extra: dict | None = None) -> dict:
    overrides = MODEL_REGISTRY.get(name).spec.test_overrides
    return {"MODEL.MODEL_NAME": name, "MODEL.NUM_CLASSES": 5} | overrides | (extra or {})


CASES = {
    **{name: recognition(name) for name in NAMES},
    **{f"TSN {head}": recognition("TSN", {"TSN.CONSENSUS": head}) for head in TSN_HEADS},
    "Uniformer STFM": recognition(
        "Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}
    ),
    "SlowFast sub-batches": recognition("SlowFast", SUB_BATCHES),
    "X3D sub-batches": recognition("X3D", SUB_BATCHES),
    "ResNet non-local": recognition("ResNet", NON_LOCAL),
    "mixed up": recognition("FrameAverage", {"MIXUP.ENABLE": True, "TRAIN.NAN_POLICY": "skip"}),
    "sgd": recognition("FrameAverage", {"SOLVER.OPTIMIZING_METHOD": "sgd"}),
    "float16": recognition("FrameAverage", {"TRAIN.AMP_DTYPE": "float16"}),
    "fewshot staf": TINY_FEWSHOT | {"FEWSHOT.METHOD": "staf"},
    "fewshot prototype": TINY_FEWSHOT | {"FEWSHOT.METHOD": "prototype"},
}


def build(values: dict):
    """(configuration, network on the GPU, what its task computes)."""
    common = {"NUM_GPUS": 1, "TRAIN.MIXED_PRECISION": None, "SOLVER.OPTIMIZING_METHOD": "adamw"}
    cfg = load_config(overrides=words(common | values | {"NUM_GPUS": 1}))
    module = task_class(cfg)(cfg, GPU).module
    if cfg.TASK == "fewshot":
        module.data.class_names = lambda split: ["a"] * 6
    torch.manual_seed(0)
    network = module.build_model().train()
    module.begin(network, "train")
    return cfg, network, module


@pytest.mark.parametrize("case", CASES)
def test_steps_and_predictions_wait_for_nothing(case):
    cfg, network, module = build(CASES[case] | {"TRAIN.MIXED_PRECISION": True})
    step = OptimizerStep(cfg, network, module, build_optimizer(cfg, network), GPU)
    data = [fake_batch(cfg, 4).pin_memory() for _ in range(2)]
    for number in range(2):  # what happens once: constants, cuDNN's trials, states
        step(list(on_device(data, GPU.device)), 1e-4, number)
    with no_waiting():
        pending = [step.launch(list(on_device(data, GPU.device)), 1e-4, 2 + n) for n in range(2)]
    outputs = [step.finish(late, [late.message()]) for late in pending]
    assert all(torch.isfinite(torch.tensor(output.loss)) for output in outputs)
    network.eval()
    module.begin(network, "val")
    autocast = build_autocast(cfg, GPU)
    for context in (contextlib.nullcontext(), no_waiting()):
        with context, torch.inference_mode():
            (moved,) = on_device(data[:1], GPU.device)
            inputs = module.prepare(moved, "val")
            with autocast():
                scores = HostCopy(module.predict(network, inputs))
    assert scores.read().device.type == "cpu" and torch.isfinite(scores.read()).all()


@pytest.mark.parametrize("name", ["ResNet3D", "ResNet", "SlowFast", "X3D"])
def test_bfloat16_is_the_default(name):
    if not GPU.has_fast_bfloat16():
        pytest.skip("a GPU without bfloat16")
    cfg, network, module = build(recognition(name))
    assert cfg.TRAIN.MIXED_PRECISION is None and compute_dtype(cfg, GPU) is torch.bfloat16
    seen = []
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
    for convolution in convolutions:
        convolution.register_forward_hook(lambda m, i, o: seen.append((o.dtype, o)))
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last_3d)
    step = OptimizerStep(cfg, network, module, build_optimizer(cfg, network), GPU)
    step([fake_batch(cfg, 2)], 1e-4, 0)
    assert len(seen) == len(convolutions)
    for dtype, output in seen:
        assert dtype is torch.bfloat16
        assert output.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("first", [False, True])
def test_a_skipped_step_leaves_no_trace(make_cfg, kind, first):
    cfg = make_cfg({"TRAIN.NAN_POLICY": "skip", "SOLVER.OPTIMIZING_METHOD": kind})
    bad = batches([4])
    bad[0].video[1] = float("inf")

    def run(orders):
        model = Line().to(GPU.device)
        ema = ModelEmaV3(model, decay=0.5)
        step = OptimizerStep(cfg, model, Classify(), build_optimizer(cfg, model), GPU, ema)
        assert skips_on_device(step.optimizer)
        groups = [[batch.to(GPU.device) for batch in group] for group in orders]
        skipped = [step(group, 0.1, 5).skipped for group in groups]
        states = [dict(state) for state in step.optimizer.state.values()]
        return skipped, model.state_dict(), ema.module.state_dict(), states

    good = [batches([4], seed) for seed in (1, 2)]
    orders = [bad, *good] if first else [good[0], bad, good[1]]
    skipped, *found = run(orders)
    assert skipped == ([True, False, False] if first else [False, True, False])
    _, *expected = run(good)
    for left, right in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        assert torch.equal(left, right)


def test_a_run_stops_and_names_step_and_videos(tiny_words, monkeypatch):
    """The clips of one step are not finite; the error comes later and is about that step."""
    seen: list[list[str]] = []
    built = Trainer.__init__

    def with_bad_clips(self, *arguments):
        built(self, *arguments)
        module, prepare = self.task.module, self.task.module.prepare

        def prepared(batch: Batch, split: str, step: int = 0):
            inputs = prepare(batch, split, step)
            if step == 5 and split == "train":
                seen.append(batch.path)
                inputs.video[0] = float("nan")
            return inputs

        module.prepare = prepared

    monkeypatch.setattr(Trainer, "__init__", with_bad_clips)
    values = tiny_words | {"NUM_GPUS": 1, "TRAIN.MIXED_PRECISION": True}
    with pytest.raises(UserError) as caught:
        launch(load_config(overrides=words(values)), run_job)
    text = str(caught.value)
    assert "step 5:" in text and "loss nan" in text
    assert all(path in text for path in seen[0])


def weights_of(folder) -> dict:
    (path,) = folder.glob("checkpoints/checkpoint_epoch_00002.pyth")
    content = read_checkpoint(path)
    return {"model": content["model_state"], "average": content["ema_state"]} | {
        f"state {number}": entries
        for number, entries in content["optimizer_state"]["state"].items()
    }


def test_a_resumed_run_ends_as_an_uninterrupted_one(tiny_words, monkeypatch, tmp_path):
    """To the bit, with deterministic kernels, in bfloat16."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    values = tiny_words | {
        "NUM_GPUS": 1,
        "TRAIN.MIXED_PRECISION": None,
        "GPU.DETERMINISTIC": True,
        "EMA.ENABLE": True,
        "UNIFORMER.DROP_DEPTH_RATE": 0.2,
        "TEST.ENABLE": False,
    }

    def run(folder, stop_at: int = 0) -> dict:
        cfg = load_config(overrides=words(values | {"OUTPUT_DIR": folder}))
        launched = OptimizerStep.launch

        def stopping(self, group, lr, step, sizes=None):
            if step + 1 == stop_at:
                signal.raise_signal(signal.SIGTERM)
            return launched(self, group, lr, step, sizes)

        with monkeypatch.context() as patch:
            patch.setattr(OptimizerStep, "launch", stopping)
            launch(cfg, run_job)
        return weights_of(folder)

    try:
        expected = run(tmp_path / "whole")
        with pytest.raises(Interrupted):
            run(tmp_path / "stopped", stop_at=3)
        found = run(tmp_path / "stopped")
    finally:
        torch.use_deterministic_algorithms(False)
    for left, right in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        same = torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right
        assert same


def test_a_checkpoint_of_the_cpu_goes_on_on_a_gpu(make_cfg):
    """Its optimizer state lies otherwise in memory, and was made by other kernels."""
    cfg = make_cfg({"NUM_GPUS": 1, "MODEL.MODEL_NAME": "FrameAverage"})
    module = task_class(cfg)(cfg, GPU).module
    states = []
    for runtime in (Runtime(torch.device("cpu")), GPU):
        network = task_class(cfg)(cfg, runtime).module.build_model().train()
        step = OptimizerStep(cfg, network, module, build_optimizer(cfg, network), runtime)
        module.runtime = runtime
        if states:
            step.optimizer.load_state_dict(states[0])
        output = step([fake_batch(cfg, 2)], 1e-4, 0)
        assert not output.skipped
        states.append(copy.deepcopy(step.optimizer.state_dict()))
    assert [entry["step"].item() for entry in states[1]["state"].values()].count(2.0) > 0
