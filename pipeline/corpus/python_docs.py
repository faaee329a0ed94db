"""A corpus on every machine with Python: its documentation, and that of installed packages."""

import ast
import email
import importlib.metadata
import importlib.util
import itertools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("numpy", "torch", "transformers", "ray", "datasets", "spacy", "mlflow", "deepspeed", "pydantic")
"""Installed packages whose docstrings are read, in this order, after the standard library's."""


def python_docs(max_bytes: int | None = None) -> Iterator[tuple[str, str]]:
    """(document id, text) of pydoc topics, docstrings by module, and READMEs in package metadata.

    The order depends only on the installed versions; the last document is the one that reaches `max_bytes` of UTF-8.
    """
    size = 0
    for doc_id, text in itertools.chain(_topics(), _standard_library(), _readmes(), _packages()):
        yield doc_id, text
        size += len(text.encode())
        if max_bytes is not None and size >= max_bytes:
            return


def _topics() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"topic/{name}", topics[name].strip() + "\n"


def _standard_library() -> Iterator[tuple[str, str]]:
    for name in sorted(sys.stdlib_module_names):
        if name not in ("antigravity", "this", "idlelib", "lib2to3", "test", "turtledemo"):
            yield from _modules(name)


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        yield from _modules(name)


def _readmes() -> Iterator[tuple[str, str]]:
    found = {}
    for distribution in importlib.metadata.distributions():
        # Metadata is an e-mail message whose body is the README.
        text = email.message_from_string(distribution.read_text("METADATA") or "").get_payload()
        name = distribution.metadata["Name"]
        if name and isinstance(text, str) and len(text.strip()) > 200:
            found[name.lower()] = text.strip() + "\n"
    for name in sorted(found):
        yield f"readme/{name}", found[name]


def _modules(name: str) -> Iterator[tuple[str, str]]:
    """Docstrings of a module or of every module below a package, read from the source without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    root = origin.parent.parent if origin.name == "__init__.py" else origin.parent
    for file in files:
        parts = file.relative_to(root).with_suffix("").parts
        if "test" in parts or "tests" in parts or "site-packages" in parts:
            continue
        text = _docstrings(file)
        if text:
            yield f"module/{'.'.join(parts).removesuffix('.__init__')}", text


def _docstrings(file: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ""
    documented = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and docstring.strip():
                documented.append((getattr(node, "lineno", 0), getattr(node, "name", ""), docstring.strip()))
    documented.sort()
    paragraphs = [f"{name}\n\n{text}\n" if name else f"{text}\n" for _, name, text in documented]
    text = "\n".join(paragraphs)
    # Docstrings may contain escapes of lone surrogates, which are not text.
    return text.encode(errors="ignore").decode()
