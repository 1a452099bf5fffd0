import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.data.test_workers import wait_until_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems know no parent-death signal")
CHILD = "import time; from d2v.processes import die_with_parent; die_with_parent(); print('up', flush=True); {}"
PARENT = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
    "child.stdout.readline()\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n"
)


def kill_parent(source: str) -> None:
    """Start a process that prints the id of a child of its own, kill it, and wait for the child's end."""
    parent = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        wait_until_gone(child)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        raise


@pytest.mark.parametrize("doing", ["time.sleep(60)", "import re; re.match('(a+)+$', 'a' * 60 + 'b')"])
def test_a_process_ends_with_its_parent_also_inside_of_c_code(doing: str) -> None:
    kill_parent(PARENT.format(child=CHILD.format(doing)))


@pytest.mark.slow
def test_processes_that_load_data_end_with_their_training() -> None:
    kill_parent(
        "import time\n"
        "import psutil\n"
        "from d2v.data.batch_sampler import EqualBatchSampler\n"
        "from d2v.distributed.environment import DistEnv\n"
        "from d2v.training.data_loader import BatchLoader\n"
        "from tests.training.fakes import FakeData, make_recipe\n"
        "if __name__ == '__main__':\n"
        "    recipe = make_recipe(data_workers=1, max_updates=5)\n"
        "    env = DistEnv(device_type='cpu')\n"
        "    updates = BatchLoader(FakeData(), EqualBatchSampler(40, 8, 5), recipe, env).updates()\n"
        "    next(updates)\n"
        "    loading = [one for one in psutil.Process().children() if 'spawn_main' in ' '.join(one.cmdline())]\n"
        "    print(loading[0].pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
