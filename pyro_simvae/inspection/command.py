"""The commands `inspect` and `explore`."""

import functools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import Progress

from pyro_simvae.checks import count
from pyro_simvae.components import Spec
from pyro_simvae.errors import InputError
from pyro_simvae.inference.files import write_text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from torch import Tensor

    from pyro_simvae.data import Split
    from pyro_simvae.fitted import Run
    from pyro_simvae.inspection.diagnosis import Diagnosis
    from pyro_simvae.inspection.groups import Groups

AT_ONCE = 500
"""Groups of a part of a Zarr store."""

NUM_PREDICTIVE = 10
"""Draws of whole views that a tree keeps: they are most of its size."""


def inspect(
    run: str,
    data: Spec | None = None,
    split: Literal["train", "valid", "test"] = "test",
    num_images: int = 1000,
    images: Sequence[int] | None = None,
    num_draws: int = 200,
    nuts: int = 0,
    store: Literal["netcdf", "zarr"] = "netcdf",
    densities: bool = True,
    seed: int = 0,
    out: str | None = None,
) -> Path:
    """Write a run's posterior as ArviZ data, say whether its guide can be trusted, and draw it.

    Args:
        run: the run folder.
        data: other data of the same shape, such as folder:PATH; by default the run's own.
        split: of the data.
        num_images: how many of its items, evenly spaced.
        images: their positions in the split instead, such as [3,17].
        num_draws: of the posterior, for each group of views.
        nuts: for so many of the images, the first, the exact posterior by NUTS (minutes each).
        store: netcdf, one file; zarr, written part by part, for more than memory holds.
        densities: whether to run the decoder; without it only draws of the posterior are written.
        seed: of views and draws.
        out: a new folder; by default RUN/inspection, whose files are written anew.

    Returns:
        The folder, with posterior.nc or posterior.zarr, images.csv (a row an image), inspection.json (the summary) and
        figures.

    Raises:
        InputError: no such run or images; images of another shape; `out` is already used.
    """
    from pyro_simvae.figures.posterior import draw_inspection
    from pyro_simvae.fitted import items_of, open_run
    from pyro_simvae.inspection.diagnosis import diagnose, summary_of
    from pyro_simvae.inspection.groups import chosen
    from pyro_simvae.inspection.store import read
    from pyro_simvae.inspection.summary import print_summary

    count("num_draws", num_draws, least=2)
    console, fitted = Console(soft_wrap=True), open_run(Path(run))
    folder = _folder(out, fitted.folder / "inspection")
    items = items_of(fitted, data, split)
    index = chosen(items, num_images, images)
    num_views = fitted.config.training.num_views
    console.print(f"{folder}: {len(index)} groups of {num_views} views, {num_draws} draws each", highlight=False)
    path = folder / ("posterior.nc" if store == "netcdf" else "posterior.zarr")
    rows, few = _write_tree(fitted, items, index, path, num_draws, densities, seed, console)
    rows.to_csv(folder / "images.csv")
    summary: dict[str, Any] = {"split": split, "groups": len(index), "draws": num_draws} | summary_of(rows)

    def say(line: str) -> None:
        console.print(line, highlight=False)

    diagnosis = diagnose(fitted.experiment.pair, few, num_views, seed, say, densities)
    summary |= diagnosis.summary
    if nuts:
        summary["nuts"] = _nuts(fitted, few, nuts, seed, diagnosis, console)
    say("drawing ...")
    with read(path) as tree:
        lines = draw_inspection(fitted, few, tree, rows, diagnosis, folder / "figures")
    summary["left_out"] = [*diagnosis.left_out, *lines]
    write_text(folder / "inspection.json", json.dumps(_plain(summary), indent=2) + "\n")
    print_summary(summary, console)
    say(f"inspected: {folder}")
    return folder


def explore(
    run: str,
    num_images: int = 2000,
    num_draws: int = 100,
    split: Literal["train", "valid", "test"] = "test",
    seed: int = 0,
    out: str | None = None,
) -> Path:
    """Write a page in which to look around in a run's latents, image by image.

    Args:
        run: the run folder.
        num_images: items of the split, evenly spaced.
        num_draws: of the posterior, for the diagnostics of each.
        split: of the run's data.
        seed: of views and draws.
        out: the page, an .html file that does not exist yet; by default RUN/explorer.html, which is written anew.

    Returns:
        The file: it needs no network and no server.

    Raises:
        InputError: no such run; views that are no images; `out` exists or is no .html file.
    """
    from pyro_simvae.fitted import items_of, open_run
    from pyro_simvae.inspection.groups import chosen
    from pyro_simvae.inspection.points import points_of

    console = Console(soft_wrap=True)
    path = Path(out) if out else Path(run) / "explorer.html"
    if path.suffix != ".html":
        raise InputError(f"{path} is no .html file: give --out NAME.html")
    if out and path.exists():
        raise InputError(f"{path} exists: choose another --out")
    fitted = open_run(Path(run))
    items = items_of(fitted, None, split)
    index = chosen(items, num_images)
    count("num_draws", num_draws, least=2)
    with _progress(console) as bar:
        task = bar.add_task("posteriors", total=len(index))
        points = points_of(fitted, items, index, num_draws, seed, lambda count: bar.advance(task, count))
    from pyro_simvae.inspection.explorer import page

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(points, title=str(fitted.folder)))
    console.print(f"explore: {path}", highlight=False)
    return path


# -- parts ------------------------------------------------------------------------------------------------------


def _folder(out: str | None, default: Path) -> Path:
    folder = Path(out) if out else default
    if out and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is already used: choose another --out")
    return folder


def _write_tree(
    fitted: "Run",
    items: "Split",
    index: "Tensor",
    path: Path,
    num_draws: int,
    densities: bool,
    seed: int,
    console: Console,
) -> tuple["pd.DataFrame", "Groups"]:
    """Writes the tree, in parts where it is a Zarr store. Gives the table of its groups, and the first of these."""
    import pandas as pd

    from pyro_simvae.inspection.diagnosis import table
    from pyro_simvae.inspection.store import stream_zarr, write_netcdf
    from pyro_simvae.inspection.tree import posterior_tree

    tables: list[Any] = []
    first: list[Any] = []

    def trees(size: int) -> Iterator["xr.DataTree"]:
        with _progress(console) as bar:
            task = bar.add_task("posterior", total=len(index))
            for start, part in zip(range(0, len(index), size), index.split(size), strict=True):
                # Parts have seeds of their own, lest their views and draws be the same.
                groups = _groups(fitted, items, part, seed + start)
                if not first:
                    first.append(groups.first(AT_ONCE))
                observed: dict[str, Any] = groups.observed
                tree = posterior_tree(
                    fitted.experiment.pair,
                    groups.x,
                    num_draws=num_draws,
                    num_predictive=min(NUM_PREDICTIVE, num_draws),
                    seed=seed + start,
                    group=part.tolist(),
                    constant=groups.known,
                    densities=densities,
                    **observed,
                )
                tables.append(table(tree))
                yield tree
                bar.advance(task, len(part))

    if path.suffix == ".zarr":
        stream_zarr(trees(AT_ONCE), path)
    else:
        for tree in trees(len(index)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_netcdf(tree, path)
    return pd.concat(tables), first[0]


def _groups(fitted: "Run", items: "Split", index: "Tensor", seed: int) -> "Groups":
    from pyro_simvae.inspection.groups import groups_of

    experiment, config = fitted.experiment, fitted.config
    return groups_of(items, experiment.views, index, config.training.num_views, seed, experiment.pair.observes)


def _nuts(
    fitted: "Run", groups: "Groups", most: int, seed: int, diagnosis: "Diagnosis", console: Console
) -> list[dict[str, Any]]:
    """What NUTS finds of the first so many groups; why not goes to what the diagnosis left out."""
    from pyro_simvae.inspection.diagnosis import CHAINS, NUM_DRAWS, WARMUP, run_nuts

    if not diagnosis.weighs:
        diagnosis.left_out.append("NUTS: for the same reason")
        return []
    found = []
    with _progress(console) as bar:
        for at, position in enumerate(groups.positions[:most].tolist()):
            task = bar.add_task(f"NUTS, image {position}", total=CHAINS * (NUM_DRAWS + WARMUP))
            try:
                values, _ = run_nuts(fitted.experiment.pair, groups, at, seed, functools.partial(bar.advance, task))
            except InputError as error:
                diagnosis.left_out.append(f"NUTS: {error}")
                break
            found.append({"image": position} | values)
    return found


def _plain(values: Any) -> Any:
    """The same with None for numbers that JSON does not have: k-hat of an exact guide, r_hat of a chain that stood."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _progress(console: Console) -> Progress:
    return Progress(console=console, transient=True, disable=not console.is_terminal)
