"""Making a mutant run in this process: functions get its code, constants its value.

There is no way back. Whoever applies a mutant has forked before.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from tests.mutation.changes import MODULE_LEVEL, Mutant


def apply(mutant: Mutant) -> None:
    """Let everything that is imported run the mutant; `LookupError` if its place is not found."""
    module = importlib.import_module(mutant.path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None
    tree = mutant.tree(Path(module.__file__).read_text())
    if mutant.scope == MODULE_LEVEL:
        _give_value(module, mutant, tree)
        return
    code = compile(tree, module.__file__, "exec", dont_inherit=True)
    for name in mutant.scope.split("."):
        code = _inner(code, name)
    live_function(module, mutant.scope).__code__ = code


def live_function(module: ModuleType, scope: str) -> FunctionType:
    """Return the function that runs, below whatever decorates it."""
    found: object = module
    for name in scope.split("."):
        found = vars(found)[name]
    for _ in range(10):
        if isinstance(found, FunctionType) and not hasattr(found, "__wrapped__"):
            return found
        for name in ("__wrapped__", "__func__", "fget", "func"):
            if hasattr(found, name):
                found = getattr(found, name)
                break
    raise LookupError(f"{module.__name__}.{scope} is no function")


def _inner(code: CodeType, name: str) -> CodeType:
    named = [c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name]
    if not named:
        raise LookupError(f"{code.co_name} has no code of {name}")
    return named[-1]


def _give_value(module: ModuleType, mutant: Mutant, tree: ast.Module) -> None:
    """Give a constant its new value wherever it was imported under its name."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and statement.lineno == mutant.line:
            expression = compile(ast.Expression(statement.value), "mutant", "eval")
            name = statement.targets[0].id
            before, after = vars(module)[name], eval(expression, vars(module))
            for other in list(sys.modules.values()):
                if getattr(other, "__dict__", {}).get(name) == before:
                    setattr(other, name, after)
            return
    raise LookupError(f"line {mutant.line} of {mutant.path} is no constant")
