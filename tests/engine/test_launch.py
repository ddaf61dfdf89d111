"""Processes of a launcher, and the address where they find each other."""

from __future__ import annotations

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine import launch as launch_module
from slowfast.engine.launch import process_from_launcher, slurm_address, slurm_processes
from slowfast.utils import runtime as runtime_module
from slowfast.utils.distributed import ProcessInfo
from slowfast.utils.errors import UserError

SRUN = {
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
}


def test_torchrun():
    env = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert process_from_launcher(1, env | SRUN) == ProcessInfo(3, 4, 1, 2, "env://")
    assert process_from_launcher(1, {}) is None


def test_a_task_a_process():
    info = process_from_launcher(1, SRUN)
    assert (info.rank, info.world, info.local_rank, info.local_world) == (3, 5, 1, 2)
    assert info.init_method.startswith("tcp://gpu07:")


def test_a_task_a_machine_starts_its_own():
    env = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    assert process_from_launcher(8, env) is None and slurm_processes(env) == [1, 1]
    assert process_from_launcher(1, env | {"SLURM_PROCID": "1"}).world == 2


def test_a_batch_script_is_no_step():
    """sbatch itself sets SLURM_PROCID and SLURM_NTASKS; only srun starts several tasks."""
    env = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}
    assert process_from_launcher(0, env) is None and slurm_processes(env) == []


@pytest.mark.parametrize(
    "nodes, host",
    [
        ("node01", "node01"),
        ("node[01-03,7]", "node01"),
        ("gpu-a[1,3]", "gpu-a1"),
        ("a1,b2", "a1"),
        ("rack[2-4]-x,y", "rack2-x"),
        ("n[5]", "n5"),
    ],
)
def test_first_machine(nodes, host):
    address = slurm_address({"SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "99999999"})
    name, _, port = address.removeprefix("tcp://").partition(":")
    assert name == host and 1024 < int(port) < 65536


@pytest.mark.parametrize("visible, number", [(0, 0), (2, 2), (3, 2)])
def test_gpus_that_are_there(monkeypatch, visible, number):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(runtime_module, "gpu_count", lambda: visible)
    words = ["NUM_GPUS", "-1", "TRAIN.BATCH_SIZE", "4", "TEST.BATCH_SIZE", "2"]
    cfg = load_config(overrides=words)
    assert number == cfg.NUM_GPUS and cfg.origins["NUM_GPUS"] == "-1 in command line"


@pytest.mark.parametrize(
    "given, visible, said",
    [
        (-1, 0, "device: CPU (NUM_GPUS 0, -1 in command line)"),
        (0, 0, "device: CPU (NUM_GPUS 0, command line)"),
        (0, 2, "device: CPU (NUM_GPUS 0, command line); GPUs of this machine that are not used: 2"),
    ],
)
def test_the_log_says_where_a_run_computes(monkeypatch, tmp_path, given, visible, said):
    cfg = load_config(overrides=["NUM_GPUS", str(given), "OUTPUT_DIR", str(tmp_path)])
    monkeypatch.setattr(launch_module, "gpu_count", lambda: visible)
    launch_module.launch(cfg, lambda *_: None)
    assert (tmp_path / "stdout.log").read_text().splitlines()[0].endswith(said)


def test_the_parent_of_a_process_per_gpu_touches_none(monkeypatch):
    """A context would take half a gigabyte of the first GPU for the whole run."""
    keys = ["MODEL.MODEL_NAME", "FrameAverage", "NUM_GPUS"]
    enough, too_many = (load_config(overrides=[*keys, number]) for number in "24")
    touched = []
    for name in ("set_device", "init", "current_device", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: touched.append(name))
    monkeypatch.setattr(runtime_module, "gpu_count", lambda: 2)
    started = []
    monkeypatch.setattr(launch_module, "run_processes", lambda *args: started.append(args[-1]))
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    launch_module.launch(enough, lambda *_: None)
    assert started == [2]
    with pytest.raises(UserError, match="NUM_GPUS: 4 GPU.s. asked for, 2 found"):
        launch_module.launch(too_many, lambda *_: None)
    assert started == [2] and touched == []
