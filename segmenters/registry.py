"""The table of segmenters by name, and how one is loaded."""

import dataclasses
import difflib
import importlib
import importlib.metadata
import typing
from collections.abc import Mapping
from typing import Any

from segmenters.contract import Segmenter, SegmenterError

BUILT_IN = {
    "punctuation_v1": "segmenters.punctuation:Punctuation",
    "punctuation_v2": "segmenters.rules.segmenter:PunctuationV2",
    "reference_v1": "segmenters.reference:Reference",
    "spacy_v1": "segmenters.spacy_pipeline:SpacyPipeline",
    "learned_v1": "segmenters.learned.segmenter:Learned",
    "learned_v2": "segmenters.learned.correction.segmenter:LearnedV2",
    "fixed_v1": "segmenters.fixed:Fixed",
    "wtpsplit_v1": "segmenters.wtpsplit_sat:WtpsplitSat",
}
"""Paths and not classes, so that a segmenter is imported when it is loaded."""

DEFAULT_SEGMENTER = "learned_v2"
"""The segmenter where none is named."""

ENTRY_POINT_GROUP = "sllm.segmenters"


def names() -> dict[str, str]:
    """Every name that `load` accepts, with its `module:Class`: built in, then from entry points."""
    found = {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return {**found, **BUILT_IN}


def load(name: str, **options: Any) -> Segmenter:
    """The segmenter of this versioned name, entry point or `package.module:Class`, with these options.

    Raises `SegmenterError` for an unknown name or option, or one whose package is not installed.
    """
    # Searching entry points reads every installed package, so only if needed.
    target = BUILT_IN.get(name, name)
    if ":" not in target:
        known = names()
        target = known.get(name, name)
    if ":" not in target:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SegmenterError(
            f"unknown segmenter {name!r}: {hint}known are {', '.join(sorted(known))}; "
            f"your own goes in as `package.module:Class` or by an entry point of {ENTRY_POINT_GROUP!r}"
        )
    module_name, _, class_name = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise SegmenterError(f"segmenter {name!r} ({target}) cannot be imported: {error}") from error
    _check_types(name, factory, options)
    try:
        segmenter = factory(**options)
    except TypeError as error:
        raise SegmenterError(f"segmenter {name!r}: {_wrong_options(factory, options, error)}") from error
    if not isinstance(segmenter, Segmenter):
        raise SegmenterError(
            f"{target} is not a segmenters.Segmenter; subclass it (see segmenters/contract.py)"
        )
    return segmenter


def _check_types(name: str, factory: Any, options: Mapping[str, Any]) -> None:
    """Raise `SegmenterError` for a value of another type than the option's; a float may be given as a whole number."""
    if not dataclasses.is_dataclass(factory):
        return
    hints = typing.get_type_hints(factory)
    for key, value in options.items():
        kinds = set(typing.get_args(hints.get(key)) or (hints.get(key),))
        fits = type(value) in kinds or (type(value) is int and float in kinds)
        if kinds <= {bool, int, float, str, type(None)} and not fits:
            wanted = " or ".join(sorted("null" if one is type(None) else one.__name__ for one in kinds))
            raise SegmenterError(f"segmenter {name!r}: option {key}={value!r} must be of type {wanted}")


def _wrong_options(factory: Any, options: dict[str, Any], error: TypeError) -> str:
    """The error in the options, and the list of existing options."""
    if not dataclasses.is_dataclass(factory):
        return f"it does not take these options: {error}"
    known = [field.name for field in dataclasses.fields(factory) if field.init]
    unknown = [option for option in options if option not in known]
    wrong = f"it has no option {', '.join(map(repr, unknown))}" if unknown else str(error)
    return f"{wrong}; its options are {', '.join(known)}" if known else f"{wrong}; it has no options"
