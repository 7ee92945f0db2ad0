"""Figures of an extraction: lengths of the clips, and a map of the vectors."""

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from w2v2.reports.plots.style import (
    BLUE,
    GREEN,
    INK,
    LEGEND,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    one_panel,
    style,
)
from w2v2.reports.text import shortened

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, INK, MUTED)


def principal_plane(
    vectors: Float[np.ndarray, "points dim"],
) -> tuple[Float[np.ndarray, "points 2"], list[float]]:
    """Places in the plane of the two largest principal components, and the fraction of variance of each."""
    centered = vectors.astype(np.float64) - vectors.mean(0)
    left, scales, _ = np.linalg.svd(centered, full_matrices=False)
    shares = scales**2 / max(float((scales**2).sum()), 1e-300)
    return left[:, :2] * scales[:2], [float(share) for share in shares[:2]]


def has_umap() -> bool:
    """Whether umap-learn is installed, which is no requirement."""
    return find_spec("umap") is not None


def umap_plane(vectors: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points 2"]:
    """Places in the plane by UMAP (McInnes, Healy and Melville 2018), seeded: neighbours are kept, distances are not."""
    from umap import UMAP

    num_neighbors = min(15, len(vectors) - 1)
    made = UMAP(n_neighbors=num_neighbors, random_state=0, n_jobs=1).fit_transform(vectors)
    return np.asarray(made, np.float64)


def vector_map(
    places: Float[np.ndarray, "points 2"], groups: Sequence[str], *, axis_names: tuple[str, str]
) -> Figure:
    """Vectors at their places in a plane, coloured by the group of each; rare groups share a colour."""
    common = [name for name, _ in Counter(groups).most_common()]
    named = common if len(common) <= len(_COLOURS) else common[: len(_COLOURS) - 1]
    colours: dict[str | None, str] = dict(zip(named, _COLOURS, strict=False))
    shown = [group if group in colours else None for group in groups]
    with style():
        figure, axes = one_panel(WIDTH, WIDTH)
        # Groups that share a colour are drawn first, so that they hide no other group.
        for name in (None, *named):
            rows = [i for i, group in enumerate(shown) if group == name]
            if rows:
                label = "other" if name is None else shortened(name or "none")
                colour = colours.get(name, MUTED)
                axes.scatter(places[rows, 0], places[rows, 1], s=9, color=colour, linewidths=0, label=label)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        if len(named) > 1:
            axes.legend(**LEGEND, ncols=4)
    return figure


def length_histogram(lengths_s: Float[np.ndarray, " clips"]) -> Figure:
    """Clips by duration."""
    with style():
        figure, axes = one_panel(WIDTH, 2.2)
        axes.hist(lengths_s, bins=min(40, 5 + len(lengths_s) // 5), color=BLUE)
        axes.set_xlabel("duration (s)")
        axes.set_ylabel("clips")
    return figure
