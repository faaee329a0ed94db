"""Docstrings of public objects give shapes, units and errors; that there is one is a rule of ruff (D1)."""

import ast

from tests.docs.docstrings import _lacks, findings


def lacks(code: str) -> list[str]:
    (function,) = ast.parse(code).body
    assert isinstance(function, ast.FunctionDef)
    return list(_lacks(function, None))


def test_nothing_is_lacking():
    assert list(findings()) == []


def test_what_is_lacking_is_found():
    assert lacks('def f(x: Tensor) -> int:\n    """A sum."""') == ["the array x has no shape"]
    assert lacks('def f(x_BSD: Tensor) -> int:\n    """A sum."""') == []
    assert lacks('def f() -> NDArray[np.int64]:\n    """Ends."""') == [
        "the array that it returns has no shape"
    ]
    assert lacks('def f(timeout: float) -> None:\n    """Wait."""') == ["the quantity timeout has no unit"]
    assert lacks('def f(timeout: float) -> None:\n    """Wait, at most `timeout` seconds."""') == []
    assert lacks('def f() -> None:\n    """Check."""\n    raise ShardError("no")') == [
        "raises ShardError, which its docstring does not say"
    ]
    caught = "    try:\n        raise FileNotFoundError()\n    except OSError:\n        pass"
    assert lacks(f'def f() -> None:\n    """Check."""\n{caught}') == []
    assert lacks(f'def f() -> None:\n    """Check."""\n{caught.replace("OSError", "ValueError")}') != []
