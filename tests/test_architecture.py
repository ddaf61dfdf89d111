"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import slowfast

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "slowfast"
FILES = sorted(PACKAGE.rglob("*.py"))
# Bottom to top: a file imports only from its own room and rooms before it.
ROOMS = [
    "utils",
    "config",
    "metrics",
    "video",
    "datasets",
    "layers",
    "models",
    "engine",
    "analysis",
]


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imported_modules(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_known():
    assert {room_of(f) for f in FILES} - {""} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    if not room:
        return
    allowed = set(ROOMS[: ROOMS.index(room) + 1]) | {"version"}
    for module in imported_modules(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] == "slowfast" and len(parts) > 1:
            assert parts[1] in allowed, f"{path.name} imports {module} from a room above"
        assert parts[0] not in ("tools", "tests")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_small_typed_documented(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring of the module"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 80, f"{node.name} is too long"
            if not node.name.startswith("_"):
                hinted = [a for a in node.args.args if a.arg not in ("self", "cls")]
                assert all(a.annotation for a in hinted), f"{node.name} lacks hints"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_shortcuts(path):
    text = path.read_text()
    assert ".cuda(" not in text
    if path.name != "runtime.py":
        assert "torch.cuda" not in text, "only runtime.py touches torch.cuda"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            raise AssertionError("print in the package")
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "bare except"
            silent = all(isinstance(line, ast.Pass) for line in node.body)
            broad = getattr(node.type, "id", "") in ("Exception", "BaseException")
            assert not (silent and broad), "silent broad except"


def test_every_module_imports():
    for module in pkgutil.walk_packages(slowfast.__path__, "slowfast."):
        importlib.import_module(module.name)


def test_nothing_imports_from_tools():
    for path in (ROOT / "tools").glob("*.py"):
        for module in imported_modules(ast.parse(path.read_text())):
            assert module.split(".")[0] != "tools"


def test_loops_know_no_task_and_no_model():
    from slowfast.models import MODEL_REGISTRY

    names = [n.lower() for n in MODEL_REGISTRY] + ["stfm", "recognition", "fewshot", "zeroshot"]
    for name in ("train.py", "test.py", "evaluate.py", "step.py"):
        code = ast.unparse(_without_docstrings(ast.parse((PACKAGE / "engine" / name).read_text())))
        assert not [n for n in names if n in code.lower()], name


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
