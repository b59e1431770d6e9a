"""How do trainers under test get on while others keep every core busy? Their cage leaves out the idle scheduling.

Python runs this file wherever its folder is on PYTHONPATH; `tests/conftest.py` puts it there. Everything else about the
cage stays as it is.
"""

import os
import sys

if sys.orig_argv[1:3] == ["-m", "mmd.supervisor.cage"]:
    os.sched_setscheduler = lambda *_: None
    os.setpriority = lambda *_: None
