"""The installed DeepSpeed has all that `infra.deepspeed_internals` uses, and no other file of ours uses it."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from infra import deepspeed_internals
from infra.deepspeed_internals import MEMBERS

ROOT = Path(deepspeed_internals.__file__).parents[1]
ORDINARY = {"start", "numel"}
"""Names that other objects have too."""


def attributes(tree: ast.AST) -> set[str]:
    """Names that are read or set as attributes in this code, and those given to `getattr` and its like."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names | {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) if isinstance(node.value, str)
    }


def lacks(where: str, member: str) -> bool:
    """Whether neither the module or class has the member, nor its code sets an attribute of that name."""
    module_name, _, class_name = where.partition(":")
    owner = importlib.import_module(module_name)
    owner = getattr(owner, class_name) if class_name else owner
    if hasattr(owner, member) or member in getattr(owner, "__annotations__", {}):
        return False
    classes = inspect.getmro(owner)[:-1] if class_name else [owner]
    trees = (ast.parse(inspect.getsource(one)) for one in classes)
    return not any(member in set_attributes(tree) for tree in trees)


def set_attributes(tree: ast.AST) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


@pytest.mark.parametrize(
    ("where", "member"), [(where, name) for where, names in MEMBERS.items() for name in names]
)
def test_deepspeed_has_the_member(where: str, member: str) -> None:
    assert not lacks(where, member), f"the installed DeepSpeed has no {member} in {where}"


def test_a_member_that_is_gone_is_noticed() -> None:
    for where in ("deepspeed.ops", "deepspeed.utils.tensor_fragment:fragment_address", next(iter(MEMBERS))):
        assert lacks(where, "no_such_member")


def test_every_member_that_is_used_is_listed_and_used_in_one_file_alone() -> None:
    listed = {name for names in MEMBERS.values() for name in names}
    own = Path(deepspeed_internals.__file__)
    body = ast.parse(own.read_text())
    used = set().union(*(attributes(node) for node in body.body if not isinstance(node, ast.AnnAssign)))
    used |= {
        alias.name for node in ast.walk(body) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert listed <= used
    assert {name for name in used if name.startswith(("_", "ds_")) and name.isidentifier()} - {
        "_scaler"
    } <= listed
    for folder in ("infra", "jobs", "pipeline"):
        for file in (ROOT / folder).rglob("*.py"):
            if file != own:
                assert not (
                    attributes(ast.parse(file.read_text())) & (listed - ORDINARY - {"loss_scaler"})
                ), file
