"""What the heads must beat: a linear map from features to a bag of words, which needs no encoder of text.

Ridge regression predicts which words the text of an item has. Items and texts are then compared by the cosine of the
predicted and the true weights of words (tf-idf, so that words of every text count little).

Shapes: n items, D width of the features, W words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
MOST_WORDS = 4096
"""The most frequent words alone: the regression holds items x words."""


class BagOfWords:
    """A ridge regression from features to bags of words.

    Args:
        features_nD: of items to learn from.
        texts: (n,) their texts.

    Attributes:
        penalty: the one of PENALTIES with the least leave-one-out error on these items.
    """

    def __init__(self, features_nD: np.ndarray, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # imported late: a second that others do not need
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._words = TfidfVectorizer(token_pattern=r"\S+", lowercase=False, max_features=MOST_WORDS)
        bags_nW = self._words.fit_transform(texts).toarray()
        self._map = make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(features_nD, bags_nW)
        self.penalty = float(self._map[-1].alpha_)
        self._mean_W = bags_nW.mean(axis=0)

    def of_items(self, features_nD: np.ndarray) -> np.ndarray:
        """(n, W) predicted bags, less the mean bag, of length one."""
        return _unit(self._map.predict(features_nD) - self._mean_W)

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, W) bags, less the mean bag, of length one; words that were not learned are left out."""
        return _unit(self._words.transform(texts).toarray() - self._mean_W)


def _unit(rows_nW: np.ndarray) -> np.ndarray:
    return rows_nW / np.linalg.norm(rows_nW, axis=1, keepdims=True).clip(1e-12)
