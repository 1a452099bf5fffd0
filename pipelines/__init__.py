"""The Kedro project package: in what order things happen. What each step does is in `d2v`.

`steps` holds one file per step: its node functions and their wiring. `pipeline_registry` names the pipelines.
The other modules are Kedro's settings, hooks, configuration, catalog types and command line for this project.
"""

import os
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"


def take_own_source() -> None:
    """Let this checkout's `src` come first, here and in the processes that are started. One environment serves copies
    of a checkout (git worktrees, DVC's experiments), and its installation names the first one.

    Raises:
        ImportError: `d2v` was imported from elsewhere before.
    """
    if not (SOURCE / "d2v").is_dir():  # installed, and not a checkout
        return
    loaded = getattr(sys.modules.get("d2v"), "__file__", None)
    if loaded and not Path(loaded).resolve().is_relative_to(SOURCE):
        raise ImportError(f"d2v was imported from {loaded}, and this checkout has its own: put {SOURCE} on PYTHONPATH")
    if sys.path[0] != str(SOURCE):
        sys.path.insert(0, str(SOURCE))
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if given[0] != str(SOURCE):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCE), *filter(None, given)])


take_own_source()
