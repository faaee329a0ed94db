"""`sllm scaling`: bits per byte over parameters and training tokens, from the reports of finished comparisons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from infra.storage import Folder
from jobs.reports.figure import closed_as
from jobs.runner.output.file import opened_output
from pipeline.config.paths import PATH, joined
from pipeline.errors import ConfigError
from pipeline.evaluation.scaling import Scaling, TrainedPoint, scaling_of
from pipeline.output_files import REPORT_FOLDER
from pipeline.printable import printable

FAMILIES = {"token-level": "o", "sentence-level": "^"}
"""Marker of each family in the plot."""
JSON_FILE = "comparison.json"
Points = Mapping[str, Mapping[str, TrainedPoint]]
"""By family, and in it by design and comparison."""


def command(
    comparisons: Annotated[
        list[str],
        typer.Argument(metavar="COMPARISON...", help="Folders or URLs that `sllm compare` wrote."),
        PATH,
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="A design to take; may be repeated. By default all but changed sentence-level ones.",
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw points and fits: .png or .svg."), PATH
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print points and fits as JSON.")] = False,
) -> None:
    """Arguments of `sllm scaling`. Raises `ConfigError` as `read_points`, and for a plot of another form."""
    points = read_points(comparisons, only or ())
    found = {family: scaling_of(list(own.values())) for family, own in points.items()}
    if plot is not None:
        form = plot.rpartition(".")[2].lower()
        if form not in ("png", "svg"):
            raise ConfigError(f"cannot draw {plot}: name a .png or .svg")
        drawn = draw(points, found, form)
        with opened_output(plot) as file:
            file.write(drawn)
    if as_json:
        tree = {
            family: asdict(found[family])
            | {"designs": {name: asdict(point) for name, point in points[family].items()}}
            for family in points
        }
        print(json.dumps(tree, indent=2))
    else:
        print(printable(markdown(points, found)))


def read_points(comparisons: Sequence[str], only: Sequence[str]) -> Points:
    """The designs of all comparisons. Raises `ConfigError` for a folder without a report and a name of no design."""
    found: dict[str, dict[str, TrainedPoint]] = {family: {} for family in FAMILIES}
    known: set[str] = set()
    for number, comparison in enumerate(comparisons, 1):
        data = Folder(joined(comparison, REPORT_FOLDER)).read(JSON_FILE) or Folder(comparison).read(JSON_FILE)
        if data is None:
            raise ConfigError(
                f"{comparison} has no {JSON_FILE}: name the output folder of a finished `sllm compare`"
            )
        designs = json.loads(data)["variants"]
        known |= designs.keys()
        # What a design is without a part, or on blind chunks, is no point of its family.
        excluded = {control for each in designs.values() for control in each.get("controls", ())}
        for name, each in designs.items():
            is_control = name in excluded and each["kind"] == "sentence-level"
            if name in only if only else not is_control:
                point = TrainedPoint(each["parameters"], each["training_tokens"], each["bits_per_byte"])
                label = name if len(comparisons) == 1 else f"{name} ({number})"
                found[each["kind"]][label] = point
    if unknown := [name for name in only if name not in known]:
        raise ConfigError(f"--only {unknown[0]} is no design; there are {', '.join(sorted(known))}")
    return found


def markdown(points: Points, found: Mapping[str, Scaling]) -> str:
    """The fit of each family with its spread, what the points do not determine, and the points."""
    lines = [
        "# Scaling law",
        "",
        "Bits per byte L = E + A / N^a + B / D^b of N parameters and D training tokens, by least squares; in brackets "
        "the smallest and the largest value of the fits without one point.",
        "",
        "| family | points | E | A | a | B | b | residual |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for family, scaling in found.items():
        fields = ("floor", "of_parameters", "parameter_exponent", "of_tokens", "token_exponent", "residual")
        cells = [_with_range(scaling, field) for field in fields]
        lines.append(f"| {family} | {len(scaling.points)} | {' | '.join(cells)} |")
    reasons = [f"- {family}: {reason}." for family, scaling in found.items() for reason in scaling.missing]
    lines += ["", "What these points do not determine:", "", *reasons] if reasons else []
    lines += [
        "",
        "| design | family | parameters | training tokens | bits per byte | fit |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for family, own in points.items():
        fit, used = found[family].fit, found[family].points
        for name, point in own.items():
            fitted = (
                ""
                if fit is None or point not in used
                else f"{fit.bits_per_byte(point.parameters, point.tokens):.4f}"
            )
            lines.append(
                f"| {name} | {family} | {point.parameters:,.0f} | {point.tokens:,.0f} | {point.bits_per_byte:.4f} "
                f"| {fitted} |"
            )
    return "\n".join([*lines, ""])


def _with_range(scaling: Scaling, field: str) -> str:
    is_of_no_term = (
        field in ("of_parameters", "parameter_exponent") and "parameters" not in scaling.terms
    ) or (field in ("of_tokens", "token_exponent") and "tokens" not in scaling.terms)
    if scaling.fit is None or is_of_no_term:
        return ""
    others = [getattr(fit, field) for fit in scaling.leave_one_out]
    spread = f" ({min(others):.3g} to {max(others):.3g})" if others and field != "residual" else ""
    return f"{getattr(scaling.fit, field):.3g}{spread}"


def draw(points: Points, found: Mapping[str, Scaling], form: str) -> bytes:
    """Bits per byte over training tokens and over parameters, with the fits. `form`: `png` or `svg`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained", squeeze=False)
    for color, (family, own) in enumerate(points.items()):
        for axis, variable in zip(axes[0], ("tokens", "parameters"), strict=True):
            x = [point.value(variable) for point in own.values()]
            bits = [point.bits_per_byte for point in own.values()]
            axis.scatter(x, bits, marker=FAMILIES[family], color=f"C{color}", label=family)
            _draw_fits(axis, found[family], variable, f"C{color}")
            axis.set(xscale="log", xlabel={"tokens": "training tokens"}.get(variable, variable))
            axis.set_ylabel("bits per byte (down is better)")
            axis.grid(alpha=0.3)
    axes[0][0].legend()
    return closed_as(figure, form)


def _draw_fits(axis: Any, scaling: Scaling, variable: str, color: str) -> None:
    """A line for each value of the other variable, from the smallest to the largest value of this one there."""
    other = "parameters" if variable == "tokens" else "tokens"
    for value in {point.value(other) for point in scaling.points if scaling.fit is not None}:
        line = sorted((p for p in scaling.points if p.value(other) == value), key=lambda p: p.value(variable))
        fitted = [scaling.fit.bits_per_byte(p.parameters, p.tokens) for p in line if scaling.fit is not None]
        axis.plot([point.value(variable) for point in line], fitted, "-", color=color, alpha=0.5)
