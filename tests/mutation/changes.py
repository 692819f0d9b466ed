"""The mutants of a module, from its syntax tree alone."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

NEIGHBOURS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
SIGNS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.And: "and", ast.Or: "or", ast.Add: "+", ast.Sub: "-",
}  # fmt: skip
BOUNDING = {"max", "min", "range"}
Scope = ast.FunctionDef | ast.AsyncFunctionDef
MODULE_LEVEL = "(module)"


@dataclass(frozen=True)
class Mutant:
    """One changed token; `node` is its place in `ast.walk` of the module's tree."""

    path: str
    """The module's file, relative to the project."""
    scope: str
    """The outermost function around it, as `Class.method`, or `MODULE_LEVEL`."""
    line: int
    expression: str
    """The smallest whole expression or statement around the token."""
    change: str
    node: int
    part: int
    """Which operator of a chain, or what is added to an integer."""
    repeat: int
    """How many equal changes of equal expressions come before it in the same scope."""

    @property
    def key(self) -> str:
        """Name the mutant without its line, so that an explanation outlives edits elsewhere."""
        again = f" #{self.repeat + 1}" if self.repeat else ""
        return f"{self.path}: {self.scope}: {self.expression}: {self.change}{again}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.scope}: `{self.expression}`: {self.change}"

    def tree(self, source: str) -> ast.Module:
        """Return the module's tree with this change made."""
        tree = ast.parse(source)
        parents = _parents(tree)
        node = list(ast.walk(tree))[self.node]
        if isinstance(node, ast.Compare):
            node.ops[self.part] = NEIGHBOURS[type(node.ops[self.part])]()
        elif isinstance(node, ast.BoolOp):
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            node.op = ast.Add() if isinstance(node.op, ast.Sub) else ast.Sub()
        elif isinstance(node, ast.Constant):
            node.value += self.part
        elif isinstance(node, ast.UnaryOp):
            _replace(parents[node], node, node.operand)
        return tree


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Return the mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    parents, scopes = _parents(tree), _scopes(tree)
    found: list[Mutant] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for index, node in enumerate(ast.walk(tree)):
        if node not in scopes:
            continue
        for whole, part, change in _changes(node, parents):
            named = (scopes[node], ast.unparse(whole).split("\n")[0], change)
            found.append(Mutant(path, named[0], node.lineno, *named[1:], index, part, seen[named]))
            seen[named] += 1
    return sorted(found, key=lambda mutant: (mutant.line, mutant.node))


def _changes(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[tuple[ast.AST, int, str]]:
    """Yield (expression to show, part, what changes) for each change of this node."""
    if isinstance(node, ast.Compare):
        for part, operator in enumerate(node.ops):
            if type(operator) in NEIGHBOURS:
                other = NEIGHBOURS[type(operator)]
                yield node, part, f"{SIGNS[type(operator)]} -> {SIGNS[other]}"
    elif isinstance(node, ast.BoolOp):
        yield node, 0, "and -> or" if isinstance(node.op, ast.And) else "or -> and"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, 0, "not -> nothing"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        sides = (node.left, node.right)
        if isinstance(parents[node], ast.Compare) or any(_is_number(side) for side in sides):
            yield node, 0, _swapped(node.op)
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        if _is_number(node.value):
            yield node, 0, _swapped(node.op)
    elif _is_number(node):
        parent = parents[node]
        if _bounds(parent):
            for step in (-1, 1):
                yield parent, step, f"{node.value} -> {node.value + step}"


def _swapped(operator: ast.operator) -> str:
    return "+ -> -" if isinstance(operator, ast.Add) else "- -> +"


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _bounds(parent: ast.AST) -> bool:
    """Return whether an integer right below `parent` counts something or is compared with."""
    if isinstance(parent, ast.Call):
        return isinstance(parent.func, ast.Name) and parent.func.id in BOUNDING
    return isinstance(
        parent,
        ast.Compare | ast.BinOp | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return
        | ast.IfExp,
    )  # fmt: skip


def _scopes(tree: ast.Module) -> dict[ast.AST, str]:
    """Say of each node that may be changed in which outermost function it stands.

    Left out is what does not run when the module works: annotations, defaults, decorators, class
    bodies, and the texts of messages.
    """
    scopes: dict[ast.AST, str] = {}
    for statement in tree.body:
        if isinstance(statement, Scope):
            _enter(statement.body, statement.name, scopes)
        elif isinstance(statement, ast.ClassDef):
            for inner in statement.body:
                if isinstance(inner, Scope):
                    _enter(inner.body, f"{statement.name}.{inner.name}", scopes)
        elif _is_constant(statement):
            _enter([statement.value], MODULE_LEVEL, scopes)
    return scopes


def _is_constant(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Assign)
        and len(statement.targets) == 1
        and isinstance(statement.targets[0], ast.Name)
        and all(
            isinstance(node, ast.Constant | ast.BinOp | ast.operator | ast.Name | ast.Load)
            for node in ast.walk(statement.value)
        )
    )


def _enter(nodes: list, scope: str, scopes: dict[ast.AST, str]) -> None:
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            continue
        scopes[node] = scope
        skipped = [node.annotation] if isinstance(node, ast.AnnAssign) else []
        _enter([n for n in ast.iter_child_nodes(node) if n not in skipped], scope, scopes)


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _replace(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list):
            value[:] = [new if entry is old else entry for entry in value]
