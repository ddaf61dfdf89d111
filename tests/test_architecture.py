"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import slowfast

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "slowfast"
# Bottom to top: a file imports only from its own room and rooms before it (docs/architecture.md).
ROOMS = (
    "utils",
    "config",
    "metrics",
    "video",
    "layers",
    "models",
    "datasets",
    "engine",
    "inference",
    "analysis",
    "cli",
)
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(name: str) -> str:
    """The room of a file; empty for those that stand outside (``registered.py``)."""
    room, slash, _ = name.partition("/")
    return room if slash else ""


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Names of imported modules, those in the texts that ``import_module`` may get included."""
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    by_text = {"import_module", "__import__", "find_spec", "resolve_name"}
    names = {getattr(n, "attr", getattr(n, "id", "")) for n in nodes}
    if names & by_text:
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                path = ROOT / node.value.replace(".", "/")
                is_module = path.is_dir() or path.with_suffix(".py").is_file()
                if re.fullmatch(r"slowfast(\.\w+)+", node.value) and is_module:
                    yield node.value


def imports_from_above(name: str, tree: ast.AST) -> Iterator[str]:
    room = room_of(name)
    if not room:
        return
    allowed = {*ROOMS[: ROOMS.index(room) + 1], "version"}
    for module in imported_modules(tree):
        first, *rest = module.split(".")
        if first in ("tools", "tests") or (first == "slowfast" and rest and rest[0] not in allowed):
            yield f"imports {module}"


def long_or_undocumented(name: str, tree: ast.AST) -> Iterator[str]:
    if len((PACKAGE / name).read_text().splitlines()) > 500:
        yield "more than 500 lines"
    if not ast.get_docstring(tree):
        yield "no docstring of the module"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{node.name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            if node.end_lineno - node.lineno >= 80:
                yield f"{node.name} is longer than 80 lines"
            arguments = [a for a in node.args.args if a.arg not in ("self", "cls")]
            if not node.name.startswith("_") and not all(a.annotation for a in arguments):
                yield f"{node.name} lacks type hints"


def shortcuts(name: str, tree: ast.AST) -> Iterator[str]:
    text = (PACKAGE / name).read_text()
    if ".cuda(" in text:
        yield ".cuda()"
    if "torch.cuda" in text and name != "utils/runtime.py":
        yield "torch.cuda, which only utils/runtime.py touches"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            if room_of(name) != "cli":
                yield "print outside of cli"
        if isinstance(node, ast.ExceptHandler):
            broad = getattr(node.type, "id", "") in ("Exception", "BaseException")
            silent = all(isinstance(line, ast.Pass) for line in node.body)
            if node.type is None or (silent and broad):
                yield f"silent except in line {node.lineno}"


@pytest.mark.parametrize("rule", [imports_from_above, long_or_undocumented, shortcuts])
def test_every_file(rule: Callable[[str, ast.AST], Iterator[str]]):
    broken = [f"{name}: {text}" for name, tree in TREES.items() for text in rule(name, tree)]
    assert not broken, "\n".join(broken)


def test_every_room_is_known():
    assert {room_of(name) for name in TREES} - {""} <= set(ROOMS)


def test_the_rules_can_be_broken():
    hidden = (
        "import importlib\nfor name in ('slowfast.engine.run',):\n    importlib.import_module(name)"
    )
    for code in ("from slowfast.engine import run", "import slowfast.models.base", hidden):
        assert list(imports_from_above("video/new.py", ast.parse(code))), code
    assert list(imports_from_above("cli/new.py", ast.parse("import slowfast.registered")))
    assert not list(imports_from_above("engine/new.py", ast.parse("import slowfast.models.base")))


def test_every_module_imports():
    for module in pkgutil.walk_packages(slowfast.__path__, "slowfast."):
        importlib.import_module(module.name)


def test_the_package_is_light():
    """``import slowfast`` and the configuration's own room load neither PyTorch nor a network."""
    code = "import sys, slowfast, slowfast.config.defaults; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_loops_know_no_task_and_no_model():
    from slowfast.models import MODEL_REGISTRY

    names = [n.lower() for n in MODEL_REGISTRY] + ["stfm", "recognition", "fewshot", "zeroshot"]
    for name in ("train.py", "test.py", "evaluate.py", "step.py"):
        code = ast.unparse(_without_docstrings(ast.parse((PACKAGE / "engine" / name).read_text())))
        code = code.lower().replace("slowfast.", "")  # the package has the name of a network
        assert not [n for n in names if n in code], name


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant):
                body[0] = ast.Pass()
    return tree


def test_models_own_their_section():
    """A model's section stands in its own file, nowhere in the common ones."""
    common = " ".join(f.read_text() for f in (PACKAGE / "config").rglob("*.py"))
    for section in ("UNIFORMER", "STFM", "FRAME_AVERAGE"):
        assert f'"{section}"' not in common
