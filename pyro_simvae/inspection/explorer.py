"""The explorer: one interactive page of posteriors beside their images, which asks the network for nothing."""

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pyro_simvae.errors import InputError
from pyro_simvae.figures.canvas import BLUE, GREEN, INK, ORANGE, PALETTE, PURPLE, QUIET

ASSETS = Path(__file__).parent / "explorer_assets"

MOST_NEIGHBOURS = 8

SHEET_SIDE = 2048
"""Longest side of a sheet of images in pixels: a browser unpacks a whole sheet to show one image of it."""


@dataclass(frozen=True, eq=False)
class Points:
    """M images with their views, the posteriors of these and whatever is known of them.

    Args:
        images: the views, `(M, J, C, H, W)` in [0, 1], C = 1 or 3, M >= 2.
        z_loc: means of the posteriors of the latents, `(M, J, D)`.
        z_scale: their standard deviations, a dimension each, `(M, J, D)`.
        reconstructions: as the images, or None.
        content_loc: means of the posteriors of content, `(M, C)`, or None. With C = D, content is drawn in the space
            of the latents.
        content_scale: their standard deviations, `(M, C)`; None with `content_loc`.
        labels: classes, integers `(M,)`, or None.
        class_names: names of the classes 0, 1, ...; None: their numbers.
        factors: what the images were made from, each `(M,)`.
        diagnostics: such as "k_hat" and "elbo", each `(M,)`; NaN where there is none.

    Raises:
        InputError: shapes do not belong together, the views are not images, there are fewer than two, a posterior
            is not finite, or a label has no name.
    """

    images: np.ndarray
    z_loc: np.ndarray
    z_scale: np.ndarray
    reconstructions: np.ndarray | None = None
    content_loc: np.ndarray | None = None
    content_scale: np.ndarray | None = None
    labels: np.ndarray | None = None
    class_names: Sequence[str] | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    diagnostics: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.images.shape
        if len(shape) != 5 or shape[2] not in (1, 3):
            raise InputError(
                f"views of shape {shape[2:]} are not images: only (C, H, W) with 1 or 3 channels has a picture"
            )
        if shape[0] < 2:
            raise InputError(f"{shape[0]} images have no neighbours: give at least two")
        if (self.content_loc is None) != (self.content_scale is None):
            raise InputError("content has a loc or a scale alone: give both, or neither")
        z, content = self.z_loc.shape[2:3], None if self.content_loc is None else self.content_loc.shape[1:2]
        wanted = [
            ("reconstructions", self.reconstructions, shape),
            ("z_loc", self.z_loc, (*shape[:2], *z)),
            ("z_scale", self.z_scale, (*shape[:2], *z)),
            ("content_loc", self.content_loc, (shape[0], *(content or ()))),
            ("content_scale", self.content_scale, (shape[0], *(content or ()))),
            ("labels", self.labels, shape[:1]),
            *((name, values, shape[:1]) for name, values in (*self.factors.items(), *self.diagnostics.items())),
        ]
        for name, array, right in wanted:
            if array is not None and array.shape != right:
                raise InputError(f"{name} has shape {array.shape} beside images of {shape}: give {right}")
        posteriors = (self.z_loc, self.z_scale, self.content_loc, self.content_scale)
        if not all(array is None or (array.size and np.isfinite(array).all()) for array in posteriors):
            raise InputError("a posterior is empty or not finite: give a finite loc and scale for every dimension")
        if self.labels is not None and self.class_names is not None:
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.class_names):
                raise InputError(
                    f"labels are {low} to {high} and {len(self.class_names)} classes have names: name every class"
                )


class Column(NamedTuple):
    """A factor or diagnostic, as the page shows it."""

    name: str
    values: np.ndarray
    """`(M,)`."""
    diagnostic: bool
    low: float
    high: float
    """The finite values lie from low to high; not finite itself where there is none."""
    shades: tuple[float, float]
    """Where the colours end: the 1 % and 99 % quantiles, so that one outlier does not take them all."""

    @property
    def varies(self) -> bool:
        return self.high > self.low


def page(points: Points, title: str) -> str:
    """One self-contained interactive page (HTML) of posteriors and the images that they belong to.

    A scatter plot of the locs in a plane (principal components or dimensions of z or of content), coloured and
    filtered by label, factor and diagnostic; the image under the pointer; for a clicked point its views,
    reconstructions, 90 % posterior regions and nearest neighbours in z.

    Args:
        points: what is shown.
        title: of the page.
    """
    from bokeh.embed import file_html
    from bokeh.resources import INLINE

    loader = FileSystemLoader(ASSETS)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("explorer.html.jinja")
    return file_html(_document(points), INLINE, title, template=template)


def _document(points: Points) -> Any:
    """The plot, its controls and the data, in the hands of explorer.js."""
    from bokeh.document import Document
    from bokeh.models import CustomJS
    from bokeh.palettes import Viridis256

    columns = _columns(points)
    classes, names = _classes(points)
    spaces = [_space("z", points.z_loc, points.z_scale)]
    if points.content_loc is not None and points.content_scale is not None:
        spaces.append(_space("content", points.content_loc[:, None], points.content_scale[:, None]))
    models = _plot(len(points.images)) | _controls(spaces, columns, names)
    data = {
        "spaces": spaces,
        "neighbours": _neighbours(points.z_loc[:, 0]),
        "tiles": _tiles(points),
        "columns": [column._asdict() for column in columns],
        "shades": list(Viridis256),
        "classes": classes,
        "names": names,
        "palette": _palette(len(names)),
        "view_colours": [BLUE, ORANGE, GREEN, PURPLE],
        "ink": INK,
    }
    document = Document()
    for name in ("plot", "space", "across", "up", "colour", "filters"):
        document.add_root(models[name])
    document.js_on_event("document_ready", CustomJS.from_file(ASSETS / "explorer.js", **models, **data))
    return document


def _plot(count: int) -> dict[str, Any]:
    """The scatter plot of so many points, still to be placed, with its sources and tools."""
    from bokeh import models as bm
    from bokeh.plotting import figure

    source = bm.ColumnDataSource({"x": np.zeros(count), "y": np.zeros(count), "fill": [BLUE] * count})
    regions = bm.ColumnDataSource({"xs": [], "ys": [], "color": [], "dash": []})
    centres = bm.ColumnDataSource({"x": [], "y": [], "color": []})
    shown = bm.BooleanFilter()
    # Bokeh's canvas, not its WebGL: it thins the points out while they are panned, and needs no graphics card.
    plot = figure(
        name="plot",
        tools="pan,wheel_zoom,reset",
        active_scroll="wheel_zoom",
        x_range=bm.Range1d(),
        y_range=bm.Range1d(),
        sizing_mode="stretch_both",
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = plot.axis.axis_label_text_color = QUIET
    plot.axis.axis_label_text_font_style = "normal"
    plot.grid.grid_line_color = "#f0f0f0"
    look: dict[str, Any] = {"size": 5 if count > 2000 else 8, "alpha": 0.75, "fill_color": "fill", "line_color": None}
    dots = plot.scatter("x", "y", source=source, view=bm.CDSView(filter=shown), **look)
    plot.patches("xs", "ys", source=regions, color="color", line_dash="dash", line_width=1.5, fill_alpha=0.1)
    plot.scatter("x", "y", source=centres, size=10, fill_color="color", line_color="white", line_width=1.5)
    hover = bm.HoverTool(renderers=[dots], tooltips=None, visible=False)
    tap = bm.TapTool(renderers=[dots], behavior="inspect", visible=False)
    plot.add_tools(hover, tap)
    return {
        "plot": plot,
        "source": source,
        "shown": shown,
        "regions": regions,
        "centres": centres,
        "hover": hover,
        "tap": tap,
    }


def _controls(spaces: list[dict[str, Any]], columns: list[Column], names: list[str]) -> dict[str, Any]:
    """What chooses plane, colour and points; columns go by their number."""
    from bokeh.models import Column as Stack
    from bokeh.models.widgets.inputs import MultiChoice, Select

    varying = {str(number): column for number, column in enumerate(columns) if column.varies}
    colours: list[str | tuple[Any, str]] = [("label", "label")] if names else []
    colours += [*((number, column.name) for number, column in varying.items()), ("", "none")]
    # Of all the controls this one alone takes its texts for HTML.
    labels: list[str | tuple[str, str]] = [(str(number), html.escape(name)) for number, name in enumerate(names)]
    wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
    chosen = MultiChoice(title="Labels", placeholder="add a label", options=labels, **wide)
    sliders = {number: _slider(column) for number, column in varying.items()}
    return {
        "space": Select(name="space", title="Plane of", options=[each["name"] for each in spaces], value="z", **wide),
        "across": Select(name="across", title="Across", **wide),
        "up": Select(name="up", title="Up", **wide),
        "colour": Select(name="colour", title="Colour", options=colours, value=colours[0][0], **wide),
        "chosen": chosen,
        "sliders": sliders,
        "filters": Stack(name="filters", children=[*([chosen] if names else []), *sliders.values()], **wide),
    }


def _slider(column: Column) -> Any:
    from bokeh.models import PrintfTickFormatter
    from bokeh.models.widgets.sliders import RangeSlider

    finite = column.values[np.isfinite(column.values)]
    whole = (finite == np.round(finite)).all()
    return RangeSlider(
        title=column.name,
        start=column.low,
        end=column.high,
        value=(column.low, column.high),
        step=1 if whole else (column.high - column.low) / 200,
        format=PrintfTickFormatter(format="%d" if whole else "%.3g"),
        sizing_mode="stretch_width",
    )


def _columns(points: Points) -> list[Column]:
    columns = []
    for diagnostic, group in enumerate((points.factors, points.diagnostics)):
        for name, given in group.items():
            values = given.astype(np.float64)
            finite = values[np.isfinite(values)]
            low, high = (float(finite.min()), float(finite.max())) if len(finite) else (np.nan, np.nan)
            first, last = np.quantile(finite, (0.01, 0.99)).tolist() if len(finite) else (np.nan, np.nan)
            # Where nearly all values are equal, the quantiles are too.
            shades = (first, last) if last > first else (low, high)
            columns.append(Column(name, values, bool(diagnostic), low, high, shades))
    return columns


def _classes(points: Points) -> tuple[np.ndarray | None, list[str]]:
    """Positions `(M,)` in the list of the names of the classes that occur, and that list."""
    if points.labels is None:
        return None, []
    occurring, classes = np.unique(points.labels, return_inverse=True)
    names = [str(label) if points.class_names is None else points.class_names[label] for label in occurring]
    return classes.astype(np.int32), names


def _palette(num_classes: int) -> list[str]:
    from bokeh.palettes import Turbo256, interp_palette

    return list(PALETTE) if num_classes <= len(PALETTE) else list(interp_palette(Turbo256, num_classes))


def _space(name: str, loc: np.ndarray, scale: np.ndarray) -> dict[str, Any]:
    """Posteriors `(M, J, D)` and the directions `(2 + D, D)` to look at them along: two principal components, then
    each dimension. At D = 1 the second principal component is zero."""
    dim = loc.shape[-1]
    centre = loc[:, 0].mean(axis=0)
    components = np.linalg.svd(loc[:, 0] - centre, full_matrices=False)[2][:2]
    directions = np.concatenate([components, np.zeros((2 - len(components), dim)), np.eye(dim)])
    axes = [f"principal component {number}" for number in (1, 2)] + [f"dimension {d + 1}" for d in range(dim)]
    return {
        "name": name,
        "loc": loc.astype(np.float32),
        "scale": scale.astype(np.float32),
        "centre": np.concatenate([components @ centre, np.zeros(len(directions) - len(components))]),
        "directions": directions.astype(np.float32),
        "axes": [(str(number), axis) for number, axis in enumerate(axes)],
    }


def _neighbours(z: np.ndarray) -> np.ndarray:
    """Indices `(M, k)` of the nearest others, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(MOST_NEIGHBOURS, len(z) - 1)).fit(z)
    return search.kneighbors(return_distance=False).astype(np.int32)


def _tiles(points: Points) -> dict[str, Any]:
    """All images in sheets, left to right, then down: of each item its views, then their reconstructions.

    A few sheets open faster, and are smaller, than as many files as images.
    """
    given = [kind for kind in (points.images, points.reconstructions) if kind is not None]
    pixels = np.concatenate([_bytes(pictures) for pictures in given], axis=1)
    tiles = pixels.reshape(-1, *pixels.shape[2:])
    count, channels, height, width = tiles.shape
    across, down = (max(1, SHEET_SIDE // side) for side in (width, height))
    across = min(across, count)
    sheets = []
    for start in range(0, count, across * down):
        part = tiles[start : start + across * down]
        rows = -(-len(part) // across)
        full = np.zeros((rows * across, channels, height, width), dtype=np.uint8)
        full[: len(part)] = part
        sheet = full.reshape(rows, across, channels, height, width).transpose(0, 3, 1, 4, 2)
        sheets.append(_png(sheet.reshape(rows * height, across * width, channels)))
    return {
        "sheets": sheets,
        "across": across,
        "down": down,
        "width": width,
        "height": height,
        "num_views": points.images.shape[1],
        "reconstructed": points.reconstructions is not None,
    }


def _bytes(pictures: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(np.nan_to_num(pictures, nan=0.0), 0, 1)).astype(np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    """The file of an image `(H, W, C)` of bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, format="PNG")
    return file.getvalue()
