"""Clusters of features that come one batch after the other: k-means on mini-batches (Sculley 2010).

Shape legend: N features, F numbers in each, K clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from d2v.errors import DataError

Floats = NDArray[np.floating]
FIRST_CENTRES = 20
"""Choices of first centres (k-means++) that the best is taken of, as in HuBERT's code."""


def find_clusters(passes: Iterable[Iterable[Floats]], clusters: int, batch: int, seed: int) -> NDArray[np.float32]:
    """Centres (K, F) of the clusters; one batch of features is in memory at a time.

    Args:
        passes: the features, (n, F) at a time, as often as they are gone through.
        clusters: K.
        batch: features that move the centres at a time.
        seed: of the first centres.

    Raises:
        DataError: fewer features than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans  # imported late: a second that nothing else in prepare needs

    kmeans: MiniBatchKMeans | None = None
    for features in passes:
        for chunk in batches_of(features, batch):
            if kmeans is None:
                if len(chunk) < clusters:
                    raise DataError(
                        f"{len(chunk):,} features cannot be parted into {clusters:,} clusters: set "
                        "prepare.codebook.codes lower or prepare.codebook.share higher"
                    )
                first = MiniBatchKMeans(
                    clusters, n_init=FIRST_CENTRES, batch_size=batch, reassignment_ratio=0.0, random_state=seed
                ).fit(chunk)
                kmeans = MiniBatchKMeans(
                    clusters, init=first.cluster_centers_, n_init=1, reassignment_ratio=0.0, random_state=seed
                )
            kmeans.partial_fit(chunk)
    if kmeans is None:
        raise DataError("There are no features to part into clusters: set prepare.codebook.share higher")
    centres: NDArray[np.float32] = kmeans.cluster_centers_.astype(np.float32)
    return centres


def nearest(features_NF: Floats, centres_KF: Floats) -> NDArray[np.int64]:
    """(N,) the number of the centre that each is nearest to."""
    features, centres = features_NF.astype(np.float64), centres_KF.astype(np.float64)
    distance_NK = np.square(centres).sum(axis=1) - 2.0 * features @ centres.T
    return distance_NK.argmin(axis=1)


def batches_of(features: Iterable[Floats], size: int) -> Iterator[NDArray[np.float64]]:
    """The same features, `size` at a time in float64; the last may be fewer."""
    waiting: list[Floats] = []
    count = 0
    for some in features:
        waiting.append(some)
        count += len(some)
        while count >= size:
            flat = np.concatenate(waiting)
            yield flat[:size].astype(np.float64)
            waiting, count = [flat[size:]], count - size
    if count:
        yield np.concatenate(waiting).astype(np.float64)
