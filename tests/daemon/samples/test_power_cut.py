"""Is every sample that was acknowledged still there after the process is killed at a random instant?"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support import write_class_folders

from mmd.samples.form import SampleForm
from mmd.samples.store import SampleStore

FORM = SampleForm("image", (1, 8, 8), ("cat", "dog"))

CHILD = """
import sys
from pathlib import Path
from mmd.config import SamplesConfig
from mmd.samples.store import SampleStore
from mmd.samples.find import find
import mmd.samples.ingest as module
module.BATCH_FILES = 5
with SampleStore(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    for result in module.ingest(store, find(Path(sys.argv[2]), store.form), SamplesConfig()):
        print(result.added[0].id, flush=True)
"""


def test_no_acknowledged_sample_is_lost_to_a_kill_at_any_instant(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 150, "dog": 150})
    chance = random.Random(0)
    killed_midway = 0
    for attempt in range(8):
        path = tmp_path / f"{attempt}.db"
        SampleStore.create(path, FORM, holdout_fraction=0.25).close()
        with subprocess.Popen([sys.executable, "-c", CHILD, path, folder], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = [child.stdout.readline() for _ in range(1 + chance.randrange(200))]
            time.sleep(chance.uniform(0, 0.01))  # anywhere between two acknowledgements
            child.send_signal(signal.SIGKILL)
            said += child.stdout.read().splitlines(keepends=True)
        acknowledged = {line.strip() for line in said[1:] if line.endswith("\n")}
        killed_midway += len(acknowledged) < 300
        with SampleStore(path, check=True) as store:
            stored = {record.id for record in store.records()}
            assert acknowledged <= stored
            inputs, _ = store.load(sorted(stored))
            assert len(inputs) == store.counts().total
    assert killed_midway, "every child was done before it was killed"


def test_a_killed_ingest_is_finished_by_the_next_one(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "in", {"cat": 60})
    path = tmp_path / "samples.db"
    SampleStore.create(path, FORM, holdout_fraction=0.25).close()
    with subprocess.Popen([sys.executable, "-c", CHILD, path, folder], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(10):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    done = subprocess.run([sys.executable, "-c", CHILD, path, folder], check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 61
    with SampleStore(path, check=True) as store:
        assert store.counts().total == 60
