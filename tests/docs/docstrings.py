"""What the docstrings of public objects lack: shapes of arrays, units of quantities, errors that are raised.

Run as `python -m tests.docs.docstrings` it prints a line for each. That every public object has a docstring at all is
checked by ruff (rules D1). A docstring is that of the function or of its class; a module's counts where it gives a
legend, such as that of `pipeline/__init__.py` for suffixes.
"""

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("segmenters", "pipeline", "infra", "jobs")
Function = ast.FunctionDef | ast.AsyncFunctionDef

ARRAYS = re.compile(r"\b(?:Tensor|NDArray|ndarray)\b|\b(?:Int|Float|Bool|UInt)\d+\b")
"""Annotations of arrays; the second part are our own names of numpy's."""
SHAPE = re.compile(
    r"_[A-Z][A-Z0-9]*\b|\[[A-Z]|\(\w[\w, ×-]*,[\w, ×-]*\)|\bshapes?\b|\bscalars?\b|\bper \w+|\beach\b"
    r"|\bvectors?\b|\bmatrix\b"
    r"|\bids?\b|\bends\b|\boffsets\b|\bsequence|\bone dimension\b"
)
"""What gives the shape of an array: a suffix (`latents_BSD`), its dimensions, or of what it has one element each."""
QUANTITY = re.compile(
    r"(?:^|_)(?:timeout|wait|delay|interval|duration|age|elapsed|size|memory|speed|width|height|length|budget|limit"
    r"|capacity|seconds?)$"
)
"""Names of parameters that are quantities with a unit."""
UNITS = re.compile(
    r"second|minute|byte|[kMG]i?B\b|token|sentence|document|character|pixel|step|word|element|\bnats?\b"
    r"|\bbits?\b|dimension"
    r"|row|position|worker|node|line|share|fraction|FLOP|hidden|parameter|point|number of|count|inch|window|item|file"
)
NOT_OURS = {
    "NotImplementedError",
    "AssertionError",
    "KeyboardInterrupt",
    "SystemExit",
    "StopIteration",
    "Exit",
}
"""Errors that a docstring need not name."""
ELSEWHERE = re.compile(r"\b(?:See|As) `")
"""Start of a docstring that refers to another one."""


def findings() -> Iterator[str]:
    """A line for each docstring that lacks something: `FILE:LINE NAME: what`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for function, owner in _public_functions(tree):
                name = f"{owner.name}.{function.name}" if owner else function.name
                for lack in _lacks(function, owner):
                    yield f"{path.relative_to(ROOT)}:{function.lineno} {name}: {lack}"


def _public_functions(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node, None
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and (
                    inner.name == "__init__" or not inner.name.startswith("_")
                ):
                    yield inner, node


def _lacks(function: Function, owner: ast.ClassDef | None) -> Iterator[str]:
    text = (ast.get_docstring(function) or "") + (ast.get_docstring(owner) or "" if owner else "")
    if ELSEWHERE.search(text):
        return
    for error in sorted(_raised(function)):
        if error not in text:
            yield f"raises {error}, which its docstring does not say"
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    for one in arguments:
        annotation = ast.unparse(one.annotation) if one.annotation else ""
        if ARRAYS.search(annotation) and not _has_shape(one.arg, annotation, text):
            yield f"the array {one.arg} has no shape"
        is_quantity = annotation in ("int", "float") and QUANTITY.search(one.arg)
        if is_quantity and not UNITS.search(one.arg) and not UNITS.search(text):
            yield f"the quantity {one.arg} has no unit"
    returned = ast.unparse(function.returns) if function.returns else ""
    if ARRAYS.search(returned) and not _has_shape(function.name, returned, text):
        yield "the array that it returns has no shape"


def _has_shape(name: str, annotation: str, text: str) -> bool:
    return bool(re.search(r"_[A-Z][A-Z0-9]*$", name) or SHAPE.search(text) or SHAPE.search(annotation))


def _raised(function: Function) -> set[str]:
    """Names of the errors that leave the function by `raise` statements of its own."""
    found: set[str] = set()
    for node in function.body:
        found |= _leaving(node)
    return found


def _leaving(node: ast.AST) -> set[str]:
    """Names of the errors that leave a statement; functions and classes within it are not run there."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
        return set()
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        called = ast.unparse(node.exc.func).split(".")[-1]
        return {called} if called[:1].isupper() and called not in NOT_OURS else set()
    if isinstance(node, ast.Try):
        inside = set().union(*map(_leaving, node.body))
        caught = {name for handler in node.handlers for name in _caught(handler)}
        left = {error for error in inside if not caught & _kinds(error)}
        return left.union(*map(_leaving, [*node.handlers, *node.orelse, *node.finalbody]))
    return set().union(*map(_leaving, ast.iter_child_nodes(node)))


def _caught(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return ["BaseException"]
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [ast.unparse(one).split(".")[-1] for one in types]


def _kinds(error: str) -> set[str]:
    """The name of an error, and those of the built-in classes that it is one of."""
    known = getattr(builtins, error, None)
    return {error, "Exception", "BaseException"} | {kind.__name__ for kind in getattr(known, "__mro__", ())}


if __name__ == "__main__":
    lines = list(findings())
    print("\n".join([*lines, f"{len(lines)} found"]))
    sys.exit(bool(lines))
