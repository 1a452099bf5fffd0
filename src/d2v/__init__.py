"""d2v: data2vec 1.0 and 2.0, pretrained, probed, tracked and versioned."""

import os

__version__ = "0.1.0"

# Read when torch is first imported. OpenMP's threads wait for one another by spinning; beside another busy process
# that makes a step up to 15 times slower, as each waits for one that is not running. A short spin costs nothing
# measurable on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
