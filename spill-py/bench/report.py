"""One line for each figure."""

from __future__ import annotations

import statistics


def line(name: str, ours: list[float], theirs: list[float], unit: str, goal: float, less: bool = False) -> None:
    """Prints medians, spreads, and how many times better ours is. `less`: smaller figures are better."""

    def shown(figures: list[float]) -> str:
        low, high = min(figures), max(figures)
        return f"{statistics.median(figures):>11.4g} {unit:<7} ({low:.3g} to {high:.3g})"

    ratio = statistics.median(ours) / statistics.median(theirs)
    if less:
        ratio = 1 / ratio
    aim = f"{goal:g}" if goal else "-"
    print(f"{name:<22} {shown(ours):>34} {shown(theirs):>34} {ratio:>7.2f}  {aim}", flush=True)
