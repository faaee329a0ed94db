"""Damage to valid input: bytes that are changed, cut, repeated and joined, and JSON-like trees with other values."""

import random
import re
from collections.abc import Sequence
from typing import Any

INTERESTING = [
    *(
        b"\0",
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n\n",
        b" ",
        b"\t",
        b"\x0b",
        b"\x1c",
        b"\x85",
        b"\x7f",
        b"\x80",
        b"\xff",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\xf0\x9f\x98\x80",
        b"\xe2\x80\xa8",
    ),
    *(
        b'"',
        b'""',
        b'"\n"',
        b"'",
        b",",
        b";",
        b"|",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"[]",
        b"{}",
        b"\\",
        b"\\u",
    ),
    *(b"\\ud800", b"\\n", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 5000, b"1" * 40),
    *(b'{"a": 1, "a": 2}', b'"text": "again", ', b"# newdoc\n", b"# text = ", b"1-2\t", b"SpaceAfter=No"),
    *(
        b"&a ",
        b"*a",
        b"<<: *a",
        b"? ",
        b"- ",
        b"!!python/object/apply:os.getcwd []",
        b"!!binary x",
        b"%YAML 9\n",
    ),
    *(
        b"---\n",
        b"...\n",
        b"2001-01-01",
        b"0o7",
        b"1_0",
        b"~",
        b"${HOME}",
        b"../",
        b"/",
        b"//",
        b"file:///",
        b"*",
    ),
    *(b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"),
    *(b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x01\0\0\0"),
]
"""What parsers treat in a way of its own."""
DEEP = [b"[" * 3000, b'{"a":' * 3000, b"- " * 3000, b"(" * 3000, b"]" * 3000]
NUMBERS = [
    0,
    -1,
    1,
    255,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63),
    10**30,
    10**5000,
]
VALUES: list[Any] = [
    *(None, True, False, *NUMBERS[:-1], 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "x", "0", "1", "train", "dev", "null", "\0", "\n", "\ud800", "é", "😀", "a" * 3000),
    *(
        "../../x",
        "/",
        ".",
        "..",
        "~",
        "~/x",
        "${HOME}",
        "/no/such",
        "file:///no/such",
        "s3://no/such",
        "*",
        "a b",
    ),
    *([], {}, [[]], [None], [{}], {"": None}, {"a": {"b": {"c": 1}}}, [1, 2, 3], ["a", 1, None]),
]
_NUMBER = re.compile(rb"\d+")


def mutated(rng: random.Random, seeds: Sequence[bytes], most: int = 4) -> bytes:
    """One of the seeds with up to `most` changes; now and then as it is."""
    data = rng.choice(seeds)
    for _ in range(rng.randint(0, most)):
        data = rng.choice(_CHANGES)(rng, data, seeds)
    return data


def mutated_text(rng: random.Random, seeds: Sequence[str], most: int = 4) -> str:
    """The same for text; a byte that is no UTF-8 becomes a lone surrogate."""
    changed = mutated(rng, [seed.encode("utf-8", "surrogatepass") for seed in seeds], most)
    return changed.decode("utf-8", "surrogateescape")


def mutated_tree(rng: random.Random, tree: Any, most: int = 3) -> Any:
    """A copy of the tree with up to `most` values replaced, removed, renamed, wrapped, moved or doubled."""
    tree = _copy(tree)
    for _ in range(rng.randint(1, most)):
        nodes = [*_nodes(tree)]
        if not nodes:
            return rng.choice(VALUES)
        node, key = rng.choice(nodes)
        match rng.randrange(8):
            case 0 | 1 | 2:
                node[key] = _copy(rng.choice(VALUES))
            case 3:
                del node[key]
            case 4 if isinstance(node, dict):
                node[rng.choice([key + "x", key[:-1], "", key.upper()])] = node.pop(key)
            case 5:
                other, other_key = rng.choice(nodes)
                node[key] = _copy(other[other_key])
            case 6:
                node[key] = rng.choice([[node[key]], {"a": node[key]}, str(node[key])])
            case 7 if isinstance(node, list):
                node += _copy(node) * rng.choice([1, 2, 20])
            case _:
                node[key] = rng.choice(NUMBERS[:-1])
    return tree


def _nodes(tree: Any) -> Any:
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _nodes(tree[key])


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list) else tree


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice([1, 1, 2, 4, 16, 64, 512]))


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def _cut_short(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _remove(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    position = rng.randint(0, len(data))
    return data[:position] + rng.choice(INTERESTING) * rng.choice([1, 1, 1, 2, 9]) + data[position:]


def _overwrite(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    new = rng.choice(INTERESTING)
    position = rng.randint(0, max(0, len(data) - len(new)))
    return data[:position] + new + data[position + len(new) :]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice([1, 2, 30]) + data[end:]


def _swap(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    (a, b), (c, d) = sorted([_span(rng, data), _span(rng, data)])
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def _splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _number(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(data[:4096]))
    if not found:
        return _flip(rng, data, _)
    start, end = rng.choice(found).span()
    return data[:start] + rng.choice(_WRITTEN_NUMBERS) + data[end:]


def _nest(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if rng.random() < 0.9:
        return _insert(rng, data, _)
    position = rng.randint(0, len(data))
    return data[:position] + rng.choice(DEEP) + data[position:]


_WRITTEN_NUMBERS = [
    *(b"0", b"-1", b"255", b"2147483648", b"9223372036854775808", b"18446744073709551616", b"1" + b"0" * 30),
    *(b"1e309", b"0.5", b"-0.0", b"007", b"9" * 5000),
]
_CHANGES = [
    _flip,
    _flip,
    _cut_short,
    _remove,
    _insert,
    _insert,
    _overwrite,
    _repeat,
    _swap,
    _splice,
    _number,
    _nest,
]
