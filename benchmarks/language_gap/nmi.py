"""Do the features of two collections of texts separate by themselves?"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score


def language_gap(first: np.ndarray, second: np.ndarray, seed: int = 0, num_starts: int = 10) -> float:
    """
    Normalised mutual information between the collection of a text and its cluster in K-means with two clusters.

    The mutual information is divided by the arithmetic mean of the entropies of collection and cluster.

    Args:
        first, second: features `[texts, dim]` of the two collections.
        seed: of the starting points, drawn by k-means++.
        num_starts: clusterings to compute; the one with the smallest sum of squared distances counts.

    Returns:
        0 (the clusters say nothing about the collection) to 1 (the clusters are the collections).
    """
    sources = np.repeat([0, 1], [len(first), len(second)])
    clusters = KMeans(2, n_init=num_starts, random_state=seed).fit_predict(np.concatenate([first, second]))
    return float(normalized_mutual_info_score(sources, clusters))
