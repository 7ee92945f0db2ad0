"""Whether more speakers would help: the score as a function of the number of training speakers, and its extrapolation.

The curve is an inverse power law, score(n) = limit - gap (n / n_max)^(-exponent), as learning curves of classifiers are
found to be (Cortes et al. 1994; Figueroa et al. 2012). No score is above 1, so neither is the limit. Four points do not
determine the exponent, so the curve is the mean over exponents, each weighted by the marginal likelihood of its
regression (noise unknown, flat priors), and the standard deviation over exponents widens the intervals of extrapolated
scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np
from jaxtyping import Float, Shaped

from w2v2.evaluation.bootstrap import Interval, Scored, Values, intervals
from w2v2.json_types import Json, JsonObject

EXPONENTS = np.geomspace(0.1, 2.0, 25)
"""Slowest and fastest approach to the limit: 0.1 is almost a logarithm, with 2 little is left after a doubling."""
MIN_POINTS = 4
"""The fewest different numbers of speakers for a curve: with fewer, all exponents fit equally well."""
NUM_DRAWN = 25
"""Points of the curve for its figure."""
_LEAST_ERROR = 1e-9


@dataclass(frozen=True, kw_only=True)
class PowerLaws:
    """Regressions of some rows of scores, one for each of EXPONENTS."""

    limit: Float[np.ndarray, "samples exponents"]
    gap: Float[np.ndarray, "samples exponents"]
    """Limit minus score at the largest number of speakers; negative where more speakers lower the score."""
    weight: Float[np.ndarray, "samples exponents"]
    """The weight of each exponent; rows sum to 1."""
    largest: int
    """The largest number of speakers."""

    def scores_at(self, size: float) -> Float[np.ndarray, "samples exponents"]:
        """The scores at `size` speakers."""
        return self.limit - self.gap * (size / self.largest) ** -EXPONENTS

    def mean_at(self, size: float) -> Float[np.ndarray, " samples"]:
        """The score at `size` speakers, the mean over exponents."""
        return (self.weight * self.scores_at(size)).sum(1)


def fit_power_laws(sizes: Sequence[int], scores: Float[np.ndarray, "samples sizes"]) -> PowerLaws:
    """The least-squares power laws through each row of scores, with limits in [0, 1]; NaN where a score is NaN."""
    n = np.asarray(sizes) / max(sizes)
    x = n[:, None] ** -EXPONENTS
    centred = x - x.mean(0)
    slope = scores @ centred / (centred**2).sum(0)
    mean = scores.mean(1, keepdims=True)
    limit = np.clip(mean - slope * x.mean(0), 0.0, 1.0)
    # Where the limit was clipped, the best slope is another one: least squares with the limit fixed.
    gap = (limit * x.sum(0) - scores @ x) / (x**2).sum(0)
    residual = limit[:, None, :] - gap[:, None, :] * x - scores[:, :, None]
    likelihood = 1 / ((residual**2).sum(1) + _LEAST_ERROR)
    weight = likelihood / likelihood.sum(1, keepdims=True)
    return PowerLaws(limit=limit, gap=gap, weight=weight, largest=max(sizes))


def learning_curve(by_size: Mapping[int, Scored], *, metric: str, seed: int) -> dict[str, Json]:
    """Each point with its interval, the curve, the score at twice the speakers and the gain to there, as plain JSON.

    by_size maps a number of training speakers to the predictions of the models trained on so many; the folds and their
    held-out speakers are the same for all numbers. Intervals are computed as in `bootstrap`: the curve is fitted again in
    each sample of held-out speakers, and of folds. Each fold draws its own training speakers, so intervals over folds
    include the variation of the draws. No interval includes that all training speakers come from one corpus. `undefined`
    says why there is no extrapolation.
    """
    sizes = sorted(by_size)
    by_name = intervals(_curve_scores(by_size, metric), seed=seed)
    points = [{"num_speakers": size, **_plain(by_name[f"score {size}"])} for size in sizes]
    if undefined := _why_undefined(points):
        return {"points": points, "undefined": undefined}
    laws = fit_power_laws(sizes, np.array([[point["value"] for point in points]]))
    doubled = laws.scores_at(2 * sizes[-1])
    drawn = np.linspace(sizes[0], 2 * sizes[-1], NUM_DRAWN)
    return {
        "points": points,
        "curve": [[float(size), float(laws.mean_at(size)[0])] for size in drawn],
        "doubled": {"num_speakers": 2 * sizes[-1], **_widened(by_name["doubled"], doubled, laws)},
        "gain": _widened(by_name["gain"], doubled - laws.scores_at(sizes[-1]), laws),
        "undefined": "",
    }


def _curve_scores(by_size: Mapping[int, Scored], metric: str) -> Scored:
    """The score at each size and at twice the largest, and the gain by twice the largest, for any sample of speakers."""
    sizes = sorted(by_size)
    first = by_size[sizes[0]]

    def values(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        scores = np.stack([by_size[size].values(counts)[metric] for size in sizes], axis=1)
        laws = fit_power_laws(sizes, scores)
        doubled = laws.mean_at(2 * sizes[-1])
        named = {f"score {size}": scores[:, place] for place, size in enumerate(sizes)}
        return {**named, "doubled": doubled, "gain": doubled - laws.mean_at(sizes[-1])}

    bounds = {f"score {size}": (0.0, 1.0) for size in sizes}
    return Scored(speakers=first.speakers, values=values, folds=first.folds, bounds=bounds)


def _widened(
    interval: Interval, by_exponent: Float[np.ndarray, "1 exponents"], laws: PowerLaws
) -> dict[str, Json]:
    """The number with its interval, which includes two standard deviations over the exponents."""
    if interval.value is None or interval.low is None or interval.high is None:
        return _plain(interval)
    mean = (laws.weight * by_exponent).sum()
    spread = 2 * float(np.sqrt((laws.weight * (by_exponent - mean) ** 2).sum()))
    low, high = (
        interval.value - hypot(interval.value - interval.low, spread),
        interval.value + hypot(interval.high - interval.value, spread),
    )
    return _plain(interval) | {"interval": [low, high]}


def _why_undefined(points: Sequence[JsonObject]) -> str:
    if len(points) < MIN_POINTS:
        return f"{len(points)} numbers of speakers, wanted {MIN_POINTS} for a curve"
    undefined = [point["undefined"] or "no score" for point in points if point["value"] is None]
    return undefined[0] if undefined else ""


def _plain(interval: Interval) -> dict[str, Json]:
    return {"value": interval.value, "interval": interval.between, "undefined": interval.undefined}


def sentence(curve: JsonObject) -> str:
    """A sentence on the score expected with twice the speakers, with its interval, or why this is undefined."""
    if curve["undefined"]:
        return f"Whether more speakers would help cannot be estimated: {curve['undefined']}."
    num_now, gain = curve["points"][-1]["num_speakers"], curve["gain"]
    if gain["interval"] is None:
        return f"Whether more speakers would help cannot be estimated: the gain has no interval ({gain['undefined']})."
    low, high = (100 * end for end in gain["interval"])
    name = "UAR" if curve["metric"] == "uar" else curve["metric"].replace("_", " ")
    number = f"{100 * gain['value']:+.1f} points of {name} [{low:+.1f}, {high:+.1f}]"
    if low <= 0 <= high:
        return f"Whether more than {num_now} training speakers would help is uncertain: the estimate for twice as many is {number}."
    return f"Twice the {num_now} training speakers would bring about {number}."
