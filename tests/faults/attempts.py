"""One try of a case, from the drawing of its moment to its outcome."""

import random
import shutil
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.tries import Case, MissedError, Moment, Try
from tests.faults.world import World


@dataclass
class Outcome:
    """What came of a try; `wrong` is empty where it held."""

    case: str
    moment: Moment
    folder: str
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: int = 0
    twice: int = 0
    curve: float | None = None
    seconds: float = 0.0
    """More than the undisturbed run took, with the pauses of the fault itself."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def attempt(world: World, case: Case, number: int, chance: random.Random) -> Outcome:
    """One try of a case. A moment that comes after the job's end is drawn again, earlier."""
    undisturbed = world.undisturbed(case.verb)
    moment = Moment.draw(chance, undisturbed.seconds)
    for redraw in range(4):
        folder = world.root / "tries" / f"{case.name}-{number}{'abcd'[redraw]}"
        outcome = Outcome(case.name, moment, str(folder))
        start = time.monotonic()
        this: Try | None = None
        try:
            this = Try(world, case, moment, folder, chance)
            case.flow(this)
            outcome.seconds = time.monotonic() - start - undisturbed.seconds
            verdict = this.verdict()
            outcome.wrong = [*this.wrong, *verdict.wrong]
            outcome.lost, outcome.twice, outcome.curve = verdict.lost, verdict.twice, verdict.curve
        except MissedError:
            moment = Moment(moment.progress * 0.6, moment.seconds * 0.5)
            outcome.wrong = ["the job ended before the fault, four times"]
            continue
        except Exception as error:
            outcome.wrong = [*(this.wrong if this else ()), f"{type(error).__name__}: {error}"]
        finally:
            if this is not None:
                outcome.notes = this.notes
                this.close()
            world.calm()
        break
    if not outcome.wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
