"""Asks polars the question that `columns` answers, of the same file: python check.py table.arrow answer.json"""

import json
import math
import sys

import polars

table, answer = sys.argv[1:]
with open(answer) as file:
    ours = json.load(file)["stations"]
theirs = (
    polars.read_ipc(table)
    .group_by("station")
    .agg(
        readings=polars.col("degrees").count(),
        count=polars.col("count").sum().cast(polars.Int64),
        mean=polars.col("degrees").mean(),
        max=polars.col("degrees").max(),
        deviation=polars.col("degrees").std(),
    )
    .sort("station")
    .to_dicts()
)

assert len(ours) == len(theirs) > 1, (len(ours), len(theirs))
for mine, other in zip(ours, theirs, strict=True):
    for name, value in other.items():
        same = math.isclose(mine[name], value, rel_tol=1e-9) if isinstance(value, float) else mine[name] == value
        assert same, f"{other['station']}: {name} is {mine[name]}, polars says {value}"
print(f"polars {polars.__version__} agrees on {len(theirs)} stations")
