"""The figure of posterior predictive checks: statistics of the data among those of replications."""

import xarray as xr
from matplotlib.figure import Figure

from pyro_simvae.figures.canvas import ORANGE, tidy
from pyro_simvae.figures.panels import headline, panels


def check_histograms(checks: xr.Dataset) -> Figure:
    """A panel a statistic: its mean over groups in each replication, and, as a line, in the data.

    Args:
        checks: as `predictive_checks.check` gives it.
    """
    names = [str(name) for name in checks["statistic"].values]
    fig, drawn = panels(len(names), 3, 2.8, 2.3)
    for axes, name in zip(drawn, names, strict=True):
        found = checks.sel(statistic=name)
        replicated, observed = found["replicated"].mean("group").values, float(found["observed"].mean())
        axes.hist(replicated, bins="sturges", color="#b9c9d6")
        axes.axvline(observed, color=ORANGE, linewidth=2)
        tidy(axes, f"{name}: p = {float(found['overall']):.2f}", "mean over groups", "replications")
        axes.locator_params(axis="x", nbins=4)
    headline(
        fig,
        "Replicated views (grey) and the data (orange), p = P(replicated > data)\n"
        "near 0 the story has too little of a statistic, near 1 too much",
    )
    return fig
