"""A scatter plot of measured against predicted figures."""

# pyright: reportUnknownMemberType=false
# The library's own annotations are unfinished.

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from llm_fleet.calibration.score import Scored
from llm_fleet.whole_file import write_whole

TITLES = {
    "tpot_ms": "time per output token, ms",
    "output_tokens_per_s": "output tokens/s",
    "total_tokens_per_s": "total tokens/s",
}


def scatter(rows: Sequence[Scored], path: Path) -> None:
    """One panel a figure, one colour an accelerator; the grey band is a factor of 1.35 either way.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 4.2), dpi=90, layout="constrained")
    accelerators = sorted({row.accelerator for row in rows})
    colours = {name: f"C{place % 10}" for place, name in enumerate(accelerators)}
    marks = {name: "ox^sv"[place // 10 % 5] for place, name in enumerate(accelerators)}
    for place, (name, title) in enumerate(TITLES.items(), 1):
        axes = figure.add_subplot(1, 3, place)
        mine = [row for row in rows if row.figure == name]
        for accelerator in accelerators:
            dots = [(row.measured, row.predicted) for row in mine if row.accelerator == accelerator]
            if dots:
                x, y = zip(*dots, strict=True)
                axes.plot(x, y, marks[accelerator], color=colours[accelerator], ms=2, alpha=0.5, label=accelerator)
        if mine:
            ends = [min(row.measured for row in mine), max(row.measured for row in mine)]
            axes.fill_between(ends, [v / 1.35 for v in ends], [v * 1.35 for v in ends], color="0.85", zorder=0)
            axes.plot(ends, ends, color="0.4", lw=0.8)
            axes.legend(fontsize=5, ncols=2, markerscale=2)
        axes.set(xscale="log", yscale="log", title=title, xlabel="measured", ylabel="predicted")
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix.lstrip(".") or "png", metadata={"Software": None})
    write_whole(path, image.getvalue())
