"""Our buffer beside Dask's, alternating in one process on the same values.

    python spill-py/bench [CASE ...] [--scale 1.0] [--rounds 5]

Each figure is the median of the rounds, with the least and the greatest behind it; the last columns are the ratio of
the medians and the goal. Rates count the bytes of the values. `python spill-py/bench --list` names the cases.
"""

from __future__ import annotations

import argparse
import os
import sys

import buffers
import computation
import loop
import peak

CASES = {**buffers.CASES, **peak.CASES, **loop.CASES, **computation.CASES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all unless named")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes of values and memory that each case has")
    given = parser.parse_args()
    if given.list:
        for name, case in CASES.items():
            print(f"{name:<14} {case.__doc__}")
        return
    unknown = [name for name in given.cases if name not in CASES]
    if unknown:
        sys.exit(f"no such case: {', '.join(unknown)}; see --list")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {given.rounds} rounds, scale {given.scale}")
    print(f"{'':<22} {'ours':>34} {'dask':>34} {'ratio':>7}  goal")
    for name in given.cases or CASES:
        CASES[name](given.rounds, given.scale)


if __name__ == "__main__":
    main()
