"""The language gap between two collections of texts: whether their features fall apart by themselves."""

from typing import Literal

import numpy as np

Average = Literal["arithmetic", "geometric", "min", "max"]


def language_gap(
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int = 0,
    num_starts: int = 10,
    average: Average = "arithmetic",
) -> tuple[float, np.ndarray]:
    """
    Normalised mutual information (NMI) between the source of a text and its cluster in a K-means with two clusters.

    The analysis of CLIP-ViP (clip_vip §8). 0: the clusters say nothing about the source, the collections speak alike; 1:
    they are the sources. The paper leaves open what the last three arguments set, and whether features are unit
    vectors.

    Args:
        first, second: features `[texts, dim]` of the two mixed collections, equally many for the paper's setting.
        seed: of K-means' starting points, drawn by k-means++.
        num_starts: times that K-means starts anew; the clustering with the smallest sum of squared distances counts.
        average: of the entropies of source and cluster, by which the mutual information is divided.

    Returns:
        NMI, 0 to 1; and the cluster of each text, int `[texts of both]`, 0 being the cluster with more of `first`.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: the collections have no texts, or features of different sizes.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import normalized_mutual_info_score
    except ImportError as error:
        raise ImportError("The language gap needs scikit-learn: pip install 'hf_videolang[language-gap]'") from error
    if first.ndim != 2 or first.shape[1:] != second.shape[1:] or not len(first) or not len(second):
        raise ValueError(
            f"features have the shapes {list(first.shape)} and {list(second.shape)}; expected [texts, dim] twice, "
            "with at least one text each."
        )
    sources = np.repeat([0, 1], [len(first), len(second)])
    clusters = KMeans(2, n_init=num_starts, random_state=seed).fit_predict(np.concatenate([first, second]))
    if clusters[sources == 0].mean() > clusters[sources == 1].mean():
        clusters = 1 - clusters
    return float(normalized_mutual_info_score(sources, clusters, average_method=average)), clusters
