"""What may stand in a slice after what its owner was told, and the report of a soak."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal


def judge(slice_: int, acknowledged: int, unknown: Iterable[int]) -> tuple[int, int]:
    """Return how much is lost and how much is doubled in a slice of counts of one sign.

    Right is what was acknowledged and any subset of what nobody knows of. A wrong slice in
    between the two ends is both: something is missing, and something is too much.
    """
    sums = {acknowledged}
    for amount in unknown:
        sums |= {total + amount for total in sums}
    if slice_ in sums:
        return 0, 0
    sizes = sorted(map(abs, sums))
    size = abs(slice_)
    if slice_ * acknowledged < 0 or size < sizes[0]:
        return abs(acknowledged - slice_), 0
    if size > sizes[-1]:
        return 0, size - sizes[-1]
    nearest = min(sizes, key=lambda right: abs(right - size))
    return abs(nearest - size), abs(nearest - size)


def judge_reaping(
    silent: float, late: float, threshold: float
) -> Literal["too soon", "without cause", "starved"]:
    """Return why somebody was reaped who was in touch and alive.

    Args:
        silent: seconds since its last sign of life, at most, seen from outside.
        late: seconds for which its process, its network or the server was not served since then.
        threshold: of all.
    """
    if silent < threshold:
        return "too soon"  # whatever the machine does
    # A beat is due every third of the threshold: who is served all the time is never so late.
    return "starved" if late > 0.1 * threshold else "without cause"


@dataclass
class Report:
    """What a soak has to say."""

    seed: int
    operations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    reaped: list[str] = field(default_factory=list)
    """Live instances that were reaped though they could beat."""
    starved: int = 0
    """Live instances that were reaped because the machine had no time for them."""
    detection: float = 0.0
    """Worst time from a death to the end of its slices, in seconds."""
    healing: float = 0.0
    """Worst time from a data loss until all that could be back was, in seconds."""
    returned: int = 0
    """Instances that were suspended or cut off past the threshold and came back."""
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return not (self.lost or self.doubled or self.reaped or self.problems)

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        lines = [
            f"seed                      {self.seed}",
            f"operations acknowledged   {self.operations}",
            f"faults                    {self.faults.total()}: {faults}",
            f"lost                      {self.lost}",
            f"doubled                   {self.doubled}",
            f"reaped without cause      {len(self.reaped)} {', '.join(self.reaped)}",
            f"reaped for want of time   {self.starved}",
            f"away past the threshold   {self.returned}, all back",
            f"worst detection of death  {self.detection:.2f} s",
            f"worst healing of a loss   {self.healing:.2f} s",
            *(f"PROBLEM                   {problem}" for problem in self.problems),
            "passed" if self.passed else "FAILED",
        ]
        return "\n".join(lines)
