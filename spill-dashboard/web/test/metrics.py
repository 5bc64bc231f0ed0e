"""Reads metrics from standard input with Prometheus's own parser, and holds them against its conventions."""

import re
import sys

from prometheus_client.parser import text_string_to_metric_families

UNITS = ("_bytes", "_seconds", "_total", "_values", "_keys", "_threads", "_tasks", "_transfers", "_up", "_status", "_info")

families = list(text_string_to_metric_families(sys.stdin.read()))
samples = [sample for family in families for sample in family.samples]
names = [family.name for family in families]
assert len(names) == len(set(names)), "a family is there once"
seen = set()
for family in families:
    assert re.fullmatch(r"overspill_[a-z_]+", family.name), family.name
    assert family.type in ("counter", "gauge"), (family.name, family.type)
    assert family.documentation.endswith("."), family.name
    for sample in family.samples:
        assert sample.name.endswith(UNITS), sample.name
        assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in seen, key
        seen.add(key)

value = {(s.name, s.labels.get("worker"), s.labels.get("kind")): s.value for s in samples}
for worker in ("worker-0", "worker-1"):
    parts = [value["overspill_worker_memory_bytes", worker, kind] for kind in ("managed", "unmanaged", "unmanaged_recent")]
    assert sum(parts) == value["overspill_worker_process_bytes", worker, None], parts
assert value["overspill_worker_spilled_bytes", "worker-0", None] > 0
steps = {s.labels["step"]: s.value for s in samples if s.name == "overspill_storage_step_bytes_total" and s.labels["worker"] == "worker-0" and s.labels["backend"] == "storage"}
assert steps["write"] > 0 and "move" in steps, steps
print(f"{len(families)} families and {len(samples)} samples")
