"""How does one of our engines take the step? A child of `bench step`: `python -m mmd_tools.bench.engine_worker JOB`."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from mmd.artifact.load import open_set
from mmd.training import blocks
from mmd.training.engine import Batch, LossWeights
from mmd.training.engines import open_engine


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    with np.load(job["data"]) as archive:
        batch = Batch(archive["inputs"], archive["labels"], {})
    if job["is_plain"]:
        blocks.block_size = lambda: None  # type: ignore[assignment]
    opened = open_set(Path(job["set"]))
    engine = open_engine(opened, name=job["contender"], threads=job["threads"])
    weights = LossWeights(1.0, (), 0.0, opened.manifest.loss.temperature)
    clock = time.process_time if job["clock"] == "cpu" else time.perf_counter
    for line in sys.stdin:
        times, losses = [], []
        for _ in range(int(line)):
            start = clock()
            losses.append(engine.step(batch, weights, job["learning_rate"]).total)
            times.append((clock() - start) * 1e3)
        status = Path("/proc/self/status").read_text().split()
        peak_mib = int(status[status.index("VmHWM:") + 1]) / 1024
        sys.stdout.write(json.dumps({"ms": times, "losses": losses, "peak_mib": peak_mib}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
