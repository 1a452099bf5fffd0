#!/usr/bin/env bash
# TensorBoard's own reader returns 10,000 of 20,000 logged values, and counts above 16 million rounded.
#
# Guess:    EventAccumulator(folder).Reload().Scalars("loss") is what was logged.
# Versions: tensorboard 2.21.0, tensorboardX 2.6.5
# Instead:  it keeps 10,000 values per name, drawn at random from all; the last one is always kept. The draw is seeded, so a tool
#           shows the same gaps each time and looks right. The scalars are float32: 16,777,217 tokens are 16,777,216, and
#           1,000,000,001 are 1,000,000,000. The file holds all of the points.
# Means:    the best step, the first step under a loss, means per epoch and joins by step are made from half of the run; short runs
#           are whole. Pass size_guidance={"scalars": 0}, and log large counts elsewhere or in millions.
# Seen:     2026-11-30
#           logged 20000: read 10000, steps [2, 5, 7, 8] first, 19999 last; a second reader has the same steps: True
#           size_guidance 0: read 20000
#           logged 16777217: 16777216, 1000000001: 1000000000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tensorboard==2.21.0 tensorboardX==2.6.5
cd "$work"
venv/bin/python - 2> /dev/null <<'PY'
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

with SummaryWriter("run") as writer:
    for step in range(20_000):
        writer.add_scalar("loss", 1 + step % 7, step)
    for step, tokens in enumerate((16_777_217, 1_000_000_001)):
        writer.add_scalar("tokens", tokens, step)


def read(name: str, **options) -> list:
    accumulator = EventAccumulator("run", **options)
    accumulator.Reload()
    return accumulator.Scalars(name)


points = read("loss")
steps = [point.step for point in points]
print(f"logged 20000: read {len(points)}, steps {steps[:4]} first, {steps[-1]} last; a second reader has the same steps:", end=" ")
again = steps == [point.step for point in read("loss")]
print(again)
every = read("loss", size_guidance={"scalars": 0})
print(f"size_guidance 0: read {len(every)}")
tokens = [int(point.value) for point in read("tokens")]
print(f"logged 16777217: {tokens[0]}, 1000000001: {tokens[1]}")
thinned = len(steps) == 10_000 and steps[-1] == 19_999 and steps != list(range(10_000, 20_000))
raise SystemExit(0 if thinned and again and len(every) == 20_000 and tokens == [16_777_216, 1_000_000_000] else 1)
PY
