"""The kinds of files that hold a network for use without this package: how each is written, run,
and used."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from slowfast.utils.errors import UserError

FACTS = "slowfast"  # the entry of the metadata
OPSET = 20  # of ONNX: the first one that has GELU
_FACTS_FILE = f"{FACTS}.json"
_LARGEST_ONNX = 2**31 - 1  # bytes of a file of protocol buffers

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    ``write(network, example, facts)`` gives its bytes; ``open(path)`` a function of uint8 views
    ``B T H W 3``; ``lines`` are lines of Python that run it, with braces for its path, the shape of
    two views, and the name of what it gives.
    """

    write: Callable[[nn.Module, torch.Tensor, dict[str, Any]], bytes]
    open: Callable[[str], Run]
    lines: str


def trace(network: nn.Module, example: torch.Tensor) -> ExportedProgram:
    """The computation of ``network`` for any number of views, with what it reads and nothing else.

    ``example``: two views. The program names no source file.
    """
    with torch.no_grad(), _quiet():
        program = torch.export.export(
            network, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
        )
    _remove_unused(program)
    for node in program.graph.nodes:  # where in which file: not for others, and not repeatable
        node.meta = {key: node.meta[key] for key in ("val", "tensor_meta") if key in node.meta}
    return program


def _remove_unused(program: ExportedProgram) -> None:
    """Leave out parameters that the computation does not read, such as CLIP's text tower."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in list(program.graph_signature.input_specs):
        node = nodes[spec.arg.name]
        if spec.kind is not InputKind.USER_INPUT and not node.users:
            program.graph.erase_node(node)
            program.graph_signature.input_specs.remove(spec)
            program.state_dict.pop(spec.target, None)
            program.constants.pop(spec.target, None)
    program.graph_module.recompile()
    program.validate()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks, which say nothing to the user of a network."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# -- PyTorch -------------------------------------------------------------------------------------


def _write_pt2(network: nn.Module, example: torch.Tensor, facts: dict[str, Any]) -> bytes:
    program = trace(network, example)
    buffer = io.BytesIO()  # a path would become part of the content
    with _quiet():
        torch.export.save(program, buffer, extra_files={_FACTS_FILE: json.dumps(facts)})
    return buffer.getvalue()


def _open_pt2(path: str) -> Run:
    with open(path, "rb") as file, _quiet():
        return torch.export.load(file).module()


_PT2 = """import json, torch

facts = {{"slowfast.json": ""}}
network = torch.export.load({path!r}, extra_files=facts).module()
video = torch.zeros({shape}, dtype=torch.uint8)  # two views, RGB
{output} = network(video)
print({output}.shape, json.loads(facts["slowfast.json"])["classes"])
"""

# -- ONNX ----------------------------------------------------------------------------------------


def _onnx_package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"writing ONNX needs the package {name} ({error})",
            'pip install "slowfast[onnx]", or write a .pt2 file',
            "OUT",
        ) from error


def _write_onnx(network: nn.Module, example: torch.Tensor, facts: dict[str, Any]) -> bytes:
    for name in ("onnxscript", "onnxruntime"):
        _onnx_package(name)
    onnx = _onnx_package("onnx")
    program = trace(network, example)
    with _quiet():
        model = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["video"],
            output_names=[facts["output"]["name"]],
        ).model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = FACTS, json.dumps(facts)
    for part in (*model.graph.node, *model.graph.value_info, model.graph):
        del part.metadata_props[:]  # notes of the exporter about itself
    if model.ByteSize() > _LARGEST_ONNX:
        raise UserError(
            "the network takes more than the 2 GiB of an ONNX file", "write a .pt2 file", "OUT"
        )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _open_onnx(path: str) -> Run:
    runtime = _onnx_package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda video: torch.from_numpy(session.run(None, {"video": video.numpy()})[0])


_ONNX = """import json, numpy, onnxruntime

network = onnxruntime.InferenceSession({path!r})
video = numpy.zeros({shape}, numpy.uint8)  # two views, RGB
({output},) = network.run(None, {{"video": video}})
facts = json.loads(network.get_modelmeta().custom_metadata_map["slowfast"])
print({output}.shape, facts["classes"])
"""

# Of weights alone, which need a network.
_WEIGHTS = """from safetensors.torch import load_file

weights = load_file({path!r})
print(len(weights))
"""

KINDS = {".pt2": Kind(_write_pt2, _open_pt2, _PT2), ".onnx": Kind(_write_onnx, _open_onnx, _ONNX)}


def usage(path: str | Path, facts: dict[str, Any]) -> str:
    """Lines of Python that run the file without this package."""
    shape = tuple([2, *facts["input"]["shape"][1:]])
    kind = KINDS.get(Path(path).suffix)
    lines = kind.lines if kind else _WEIGHTS
    return lines.format(path=str(path), shape=shape, output=facts["output"]["name"])
