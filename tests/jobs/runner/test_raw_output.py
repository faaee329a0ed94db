"""No line of our code prints a text that may hold control characters without `printable`."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
OURS = {
    "jobs/config.py": "keys and descriptions of our own classes",
    "jobs/deployment/commands.py": "the same",
    "jobs/runner/training.py": "numbers and the name of a verb",
    "jobs/reports/corpus_summary.py": "numbers",
    "infra/submission/submit.py": "an id that we have made",
}
"""Files whose other calls of `print` show only what is ours."""


def raw_prints(path: Path) -> Iterator[int]:
    """Lines of calls of `print` whose argument is neither constant, nor passes `printable`, nor is JSON in ASCII."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("print", "sys.stdout.write"):
            continue
        for argument in node.args:
            text = ast.unparse(argument)
            is_json = text.startswith("json.dumps(") and "ensure_ascii=False" not in text
            if not (isinstance(argument, ast.Constant) or text.startswith("printable(") or is_json):
                yield node.lineno


def test_what_is_printed_is_printable() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for package in ("jobs", "infra", "pipeline", "segmenters")
        for path in (ROOT / package).rglob("*.py")
        for line in raw_prints(path)
        if str(path.relative_to(ROOT)) not in OURS
    }
    assert not found, "pass `pipeline.printable.printable`"


def test_the_check_finds_a_raw_print(tmp_path: Path) -> None:
    lines = [
        "print(name)",
        "print('a')",
        "print(printable(name))",
        "print(f'{name}')",
        "print(json.dumps(name))",
    ]
    lines.append("print(json.dumps(name, ensure_ascii=False))")
    (tmp_path / "a.py").write_text("\n".join(lines))
    assert list(raw_prints(tmp_path / "a.py")) == [1, 4, 6]
