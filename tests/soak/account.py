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


def judge_detection(took: float, late: float, threshold: float, troubles: int = 0) -> bool:
    """Return whether a dead instance was gone soon enough.

    Args:
        took: seconds from its death to the end of its slices, seen from outside, without those in
            which there was trouble with the servers.
        late: seconds for which the living, their network or the server were not served meanwhile.
        threshold: of all.
        troubles: how often there was trouble meanwhile, or shortly before.
    """
    # Two thresholds at most; those who reap it come every third of one. What was a blackout gives
    # it a fresh one, once; and after each it takes a moment until somebody is back.
    thresholds = 2 + 1 / 3 + (1 if troubles else 0)
    return took <= thresholds * threshold + late + 0.5 + troubles


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
    overdue: list[str] = field(default_factory=list)
    """Dead instances that counted for longer than they may."""
    deaths: int = 0
    """How many were seen to the end of their slices."""
    detection: float = 0.0
    """Worst time from a death to the end of its slices, in seconds, if nothing else went wrong."""
    healing: float = 0.0
    """Worst time from a data loss until all that could be back was, in seconds."""
    longest: float = 0.0
    """Longest wait of a caller whose process was served and not cut off, in seconds."""
    longest_cut_off: float = 0.0
    """The same where it was cut off or suspended, while it was served."""
    troubles: dict[str, float] = field(default_factory=dict)
    """For how long each fault of the servers lasted at most, in seconds."""
    returned: int = 0
    """Instances that were suspended or cut off past the threshold and came back."""
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return not (self.lost or self.doubled or self.reaped or self.overdue or self.problems)

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        longest = sorted(self.troubles.items(), key=lambda trouble: -trouble[1])[:3]
        troubles = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in longest)
        lines = [
            f"seed                      {self.seed}",
            f"operations acknowledged   {self.operations}",
            f"faults                    {self.faults.total()}: {faults}",
            f"lost                      {self.lost}",
            f"doubled                   {self.doubled}",
            f"reaped without cause      {len(self.reaped)} {', '.join(self.reaped)}",
            f"reaped for want of time   {self.starved}",
            f"deaths seen to the end    {self.deaths}",
            f"dead counted too long     {len(self.overdue)} {', '.join(self.overdue)}",
            f"away past the threshold   {self.returned}, all back",
            f"worst detection of death  {self.detection:.2f} s",
            f"worst healing of a loss   {self.healing:.2f} s",
            f"longest wait of a caller  {self.longest:.2f} s",
            f"  of one who was cut off  {self.longest_cut_off:.2f} s",
            f"longest server faults     {troubles}",
            *(f"PROBLEM                   {problem}" for problem in self.problems),
            "passed" if self.passed else "FAILED",
        ]
        return "\n".join(lines)
