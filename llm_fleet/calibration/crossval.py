"""Cross-validation by whole sources and by whole models: what a fit says of rows whose kin it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from llm_fleet.calibration.fit import Fitted, fit, residuals_of
from llm_fleet.calibration.points import Point
from llm_fleet.calibration.predict import Prediction, predict
from llm_fleet.calibration.setups import Batch, Resolver, batch_of

ROUNDS = 15
"""Each fold starts from the fit of everything. Fewer rounds stop before it lets go of what it held out and flatter the
errors: after 5 the medians were still a tenth too low."""


def folds_of(keys: Sequence[str], most: int) -> list[set[str]]:
    """At most `most` groups of keys of about equal numbers of rows; the largest keys stand alone."""
    groups: list[set[str]] = [set() for _ in range(most)]
    sizes = [0] * most
    for key, rows in sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0])):
        smallest = min(range(most), key=lambda place: sizes[place])
        groups[smallest].add(key)
        sizes[smallest] += rows
    return [group for group in groups if group]


def held_out(points: Sequence[Point | None], keys: Sequence[str], batch: Batch, whole: Fitted, most: int) -> Prediction:
    """The prediction of every row of `batch` by a fit that saw no row of the same fold."""
    found = {f.name: np.full(len(batch.indices), np.nan) for f in fields(Prediction)}
    resolver = Resolver()
    own = [keys[index] for index in batch.indices]
    for group in folds_of(own, most):
        kept = [None if key in group else point for point, key in zip(points, keys, strict=True)]
        train, _ = batch_of(kept, resolver)
        fitted = fit(train, residuals_of(train, kept), start=whole.vector, rounds=ROUNDS)
        places = np.flatnonzero(np.array([key in group for key in own]))
        left = [point if key in group else None for point, key in zip(points, keys, strict=True)]
        test, _ = batch_of(left, resolver)
        said = predict(test, fitted.coefficients.rates(test.levels))
        for name, values in found.items():
            values[places] = getattr(said, name)
    return Prediction(**found)
