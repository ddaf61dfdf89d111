"""Which faults can be put into a file: operators over the syntax tree.

What is never changed, because no test should depend on it: docstrings, type hints, log calls,
texts that people read (f-strings, string constants with a blank, arguments of exceptions),
``__repr__`` and ``__str__``, assertions, imports.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

OPERATORS = (
    "comparison",
    "negated condition",
    "boolean",
    "arithmetic",
    "constant",
    "off by one",
    "return value",
    "removed statement",
    "swapped arguments",
)

_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
# Functions that give the same with their arguments swapped, or whose arguments are types.
_SYMMETRIC = {"min", "max", "isinstance", "issubclass", "array_equal", "allclose", "equal", "gcd"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception"}
_FOR_PEOPLE = ("Error", "Failure", "Problem", "Warning")


@dataclass(frozen=True)
class Mutation:
    """One fault: the bytes ``start:end`` of a file replaced by ``after``.

    ``path``: of the file, from the root of the repository; ``scope``: function or class it stands
    in; ``first`` and ``last``: lines of its statement; ``in_function``: whether it is executed when
    a function is called, not when the file is imported; ``number``: tells equal faults of one scope
    apart.
    """

    path: str
    operator: str
    scope: str
    start: int
    end: int
    before: str
    after: str
    first: int
    last: int
    in_function: bool
    number: int = 0

    @property
    def name(self) -> str:
        """Identifies the fault also after lines have moved."""
        same = f" #{self.number}" if self.number else ""
        change = f"{_one_line(self.before)} -> {_one_line(self.after)}"
        return f"{self.path} {self.scope}: {self.operator}: {change}{same}"

    def apply(self, source: bytes) -> bytes:
        """The file's content with the fault."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def find_mutations(path: str, source: bytes) -> list[Mutation]:
    """Every fault that the operators can put into a file of this content, in its order."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return _numbered(sorted(finder.found, key=lambda m: (m.start, m.end, m.operator, m.after)))


def mutations_of(root: Path, paths: list[str]) -> dict[str, list[Mutation]]:
    """The faults of files and folders below ``root``, by file."""
    files = sorted(
        file
        for path in paths
        for file in ([root / path] if path.endswith(".py") else (root / path).rglob("*.py"))
    )
    names = [file.relative_to(root).as_posix() for file in files]
    return {name: find_mutations(name, (root / name).read_bytes()) for name in names}


def _numbered(found: list[Mutation]) -> list[Mutation]:
    seen: Counter[str] = Counter()
    result = []
    for mutation in found:
        result.append(replace(mutation, number=seen[mutation.name]))
        seen[mutation.name] += 1
    return result


class _Finder(ast.NodeVisitor):
    """Collects the faults of one file."""

    def __init__(self, path: str, source: bytes):
        self.path, self.source = path, source
        self.found: list[Mutation] = []
        self._scopes: list[str] = []
        self._functions = 0
        self._statement = (1, 1)
        lines = source.splitlines(keepends=True)
        self._offsets = [0]
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))

    def visit(self, node: ast.AST) -> None:
        """Visit a node; a statement's own lines end where the statements inside it begin."""
        if not isinstance(node, ast.stmt):
            return super().visit(node)
        outer = self._statement
        inside = getattr(node, "body", None)
        last = max(node.lineno, inside[0].lineno - 1) if inside else node.end_lineno
        self._statement = (node.lineno, last)
        super().visit(node)
        self._statement = outer

    # -- what is not visited -------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in ("__repr__", "__str__"):
            return
        defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
        self._visit_scope(node.name, [*node.decorator_list, *defaults])
        self._functions += 1
        self._visit_scope(node.name, node.body)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_scope(node.name, [*node.decorator_list, *node.keywords, *node.body])

    def _visit_scope(self, name: str, nodes: list[ast.AST]) -> None:
        self._scopes.append(name)
        for node in nodes:
            self.visit(node)
        self._scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        return

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        return

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) or _is_log(node.value):
            return
        if isinstance(node.value, ast.Call):
            self._add(node, "removed statement", "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "removed statement", "pass")

    # -- operators -----------------------------------------------------------------------------

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "removed statement", "pass")

    visit_Break = visit_Continue  # type: ignore[assignment]

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(t, (ast.Attribute, ast.Subscript)) for t in node.targets):
            self._add(node, "removed statement", "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "removed statement", "pass")
        other = _ARITHMETIC.get(type(node.op))
        if other and not _is_text(node.value):
            self._add(
                node, "arithmetic", ast.unparse(ast.AugAssign(node.target, other(), node.value))
            )
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not _is_constant(node.value, None):
            self._add(node, "return value", "return None")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1:
            other = _COMPARISONS[type(node.ops[0])]()
            self._add(
                node, "comparison", ast.unparse(ast.Compare(node.left, [other], node.comparators))
            )
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, "boolean", ast.unparse(ast.BoolOp(other, node.values)))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, "boolean", ast.unparse(node.operand))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other and not _is_text(node.left) and not _is_text(node.right):
            self._add(node, "arithmetic", ast.unparse(ast.BinOp(node.left, other(), node.right)))
        self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If  # type: ignore[assignment]

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name.endswith(_FOR_PEOPLE):
            return
        if len(node.args) > 1 and name not in _SYMMETRIC:
            first, second, *others = node.args
            starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
            if not starred and ast.unparse(first) != ast.unparse(second):
                swapped = ast.Call(node.func, [second, first, *others], node.keywords)
                self._add(node, "swapped arguments", ast.unparse(swapped))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, "constant", repr(not value))
        elif isinstance(value, int):
            # Either neighbour, by place, so that a sample holds both.
            step = 1 if value == 0 or (node.lineno + node.col_offset) % 2 else -1
            self._add(node, "off by one", repr(value + step))
        elif isinstance(value, float):
            self._add(node, "constant", repr(value * 2 if value else 1.0))
        elif isinstance(value, str) and value and not any(c.isspace() for c in value):
            self._add(node, "constant", repr(value + "x"))

    def _negate(self, test: ast.expr) -> None:
        if not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            self._add(test, "negated condition", f"not ({ast.unparse(test)})")

    def _add(self, node: ast.expr | ast.stmt, operator: str, after: str) -> None:
        start = self._offsets[node.lineno - 1] + node.col_offset
        end = self._offsets[node.end_lineno - 1] + node.end_col_offset
        before = self.source[start:end].decode()
        if isinstance(node, ast.expr):
            after = f"({after})"
        scope = ".".join(self._scopes) or "module"
        self.found.append(
            Mutation(
                self.path,
                operator,
                scope,
                start,
                end,
                before,
                after,
                *self._statement,
                self._functions > 0,
            )
        )


def _is_log(node: ast.expr) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr in _LOG_METHODS and getattr(node.func.value, "id", "") == "logger"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
