"""`python -m tests.faults`: see the package."""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.faults.attempts import Outcome, attempt
from tests.faults.cases import CASES
from tests.faults.tries import Case
from tests.faults.world import World

TITLES = ("case", "tries", "survived", "lost", "twice", "curve", "seconds lost")


def run(cases: Sequence[Case], seed: int, moments: int, root: Path) -> Iterator[Outcome]:
    """Try each case at so many moments. A try's moment follows from seed, case and number alone."""
    world = World(root)
    try:
        for number in range(moments):
            for case in cases:
                start = time.monotonic()
                outcome = attempt(world, case, number, random.Random(f"{seed} {case.name} {number}"))
                print(_line(outcome, time.monotonic() - start), file=sys.stderr, flush=True)
                yield outcome
    finally:
        world.close()


def _line(outcome: Outcome, seconds: float) -> str:
    moment = f"at {outcome.moment.progress:.2f} + {outcome.moment.seconds:.1f} s"
    said = "held" if not outcome.wrong else f"FAILED: {'; '.join(outcome.wrong)} (see {outcome.folder})"
    return f"{outcome.case} {moment}: {said} [{'; '.join(outcome.notes)}] {seconds:.0f} s"


def rows(outcomes: Iterable[Outcome]) -> list[dict[str, object]]:
    """One row for each case, in the order of the first tries."""
    of: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        of.setdefault(outcome.case, []).append(outcome)
    made: list[dict[str, object]] = []
    for case, tries in of.items():
        curves = [each.curve for each in tries if each.curve is not None]
        survived = sum(not each.wrong for each in tries)
        lost, twice = sum(each.lost for each in tries), sum(each.twice for each in tries)
        seconds = sum(each.seconds for each in tries) / len(tries)
        values = (case, len(tries), survived, lost, twice, max(curves) if curves else None, round(seconds, 1))
        made.append(dict(zip(TITLES, values, strict=True)))
    return made


def table(made: list[dict[str, object]]) -> str:
    """The rows as text."""
    lines = [TITLES, *(tuple("-" if row[key] is None else f"{row[key]}" for key in TITLES) for row in made)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(TITLES))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _print(outcomes: list[Outcome], seed: int, as_json: bool, root: Path) -> None:
    made = rows(outcomes)
    if as_json:
        tries = [outcome.as_dict() for outcome in outcomes]
        print(json.dumps({"seed": seed, "rows": made, "tries": tries}, indent=1))
        return
    held = sum(not outcome.wrong for outcome in outcomes)
    print(table(made))
    print(f"seed {seed}: {held} of {len(outcomes)} tries held", end="")
    print(f"; logs of the others are in {root}" if held < len(outcomes) else "")


def main() -> int:
    """Exit code 0 only where every try held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of all moments; by default a new one")
    parser.add_argument("--moments", type=int, default=3, help="tries of each case")
    parser.add_argument("--cases", default="", help="names, separated by commas; by default all")
    parser.add_argument(
        "--json", action="store_true", help="print rows and tries as JSON, in place of the table"
    )
    given = parser.parse_args()
    chosen = [name for name in given.cases.split(",") if name]
    known = {case.name: case for case in CASES}
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(known)}")
    # So that what was started is ended too where the suite itself is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    root = Path(tempfile.mkdtemp(prefix="sllm-faults-", dir="/tmp"))
    outcomes: list[Outcome] = []
    try:
        for outcome in run([known[name] for name in chosen] or CASES, seed, given.moments, root):
            outcomes.append(outcome)
    finally:
        _print(outcomes, seed, given.json, root)
    failed = any(outcome.wrong for outcome in outcomes)
    if not failed:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
