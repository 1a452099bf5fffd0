#!/usr/bin/env bash
# The same query has another distance alone than in a batch: exact duplicates are not at distance 0.
#
# Guess:    IndexFlatL2 is the exact index: a vector that is in it is at distance 0, however many queries are asked at
#           once.
# Versions: faiss-cpu 1.15.1, numpy 2.3.5
# Instead:  for larger batches faiss computes |x|^2 + |y|^2 - 2xy in float32. For raw 8-bit pixels of 32x32x3 the terms
#           are 6e7, so squared distances are off by up to 32: of 2,500 pairs of equal images a fifth has a distance
#           that is not 0, and an image three grey steps away (true 3) is at 0. One by one, all distances are exact.
#           faiss.pairwise_distances even returns negative ones for data with an offset.
# Means:    "drop what is at distance 0" leaves duplicates and drops what is none, depending on the batch size. Centre
#           or normalise the vectors first, recompute the distances of the neighbours found, or compare bytes.
# Seen:     2026-11-30
#           second copy at distance 0: 78% in one batch of 5000 (largest 32), 100% one by one
#           true distance 3: 55% at 0 and up to 20 in a batch; 3 to 3 alone
#           pairwise_distances with an offset of 1000: lowest -512
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import faiss
import numpy as np

random = np.random.default_rng(0)
images = random.integers(0, 256, (2500, 3072)).astype(np.float32)
twice = np.concatenate([images, images])
index = faiss.IndexFlatL2(3072)
index.add(twice)
batch = index.search(twice, 2)[0][:, 1]
alone = np.array([index.search(image[None], 2)[0][0, 1] for image in twice[:200]])
print(
    f"second copy at distance 0: {np.mean(batch == 0):.0%} in one batch of 5000 (largest {batch.max():.0f}), "
    f"{np.mean(alone == 0):.0%} one by one"
)
near = images[:200].copy()
near[:, :3] += 1
batch_near = index.search(np.concatenate([near, images]), 1)[0][:200, 0]
alone_near = np.array([index.search(image[None], 1)[0][0, 0] for image in near])
print(
    f"true distance 3: {np.mean(batch_near == 0):.0%} at 0 and up to {batch_near.max():.0f} in a batch; "
    f"{alone_near.min():.0f} to {alone_near.max():.0f} alone"
)
shifted = (random.standard_normal((200, 768)) + 1000).astype(np.float32)
print(f"pairwise_distances with an offset of 1000: lowest {faiss.pairwise_distances(shifted, shifted).min():.0f}")
raise SystemExit(0 if np.mean(batch == 0) < 0.99 and np.all(alone == 0) and np.all(alone_near == 3) else 1)
PY
