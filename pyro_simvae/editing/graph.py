"""The command `graph`: a story and its guide as drawings, in the terminal and by Graphviz."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer.inspect import get_model_relations
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_simvae.checks import count
from pyro_simvae.components import Spec
from pyro_simvae.distributions import Decoded
from pyro_simvae.editing.parts import parts
from pyro_simvae.editing.report import rows
from pyro_simvae.editing.runs import SEED, evaluating, is_improper, mistake_and_mend, record
from pyro_simvae.errors import InputError
from pyro_simvae.inference import rng
from pyro_simvae.inference.files import write_text
from pyro_simvae.local_params import local_params
from pyro_simvae.modalities import Modalities
from pyro_simvae.sites import accepted, is_view

SUFFIXES = (".gv", ".pdf", ".png", ".svg")


def graph(
    model: Spec,
    guide: Spec = "mean_field",
    data: Spec = "digits",
    network: Spec = "mlp",
    likelihood: Spec = "continuous_bernoulli",
    latent_dim: int = 10,
    out: str | None = None,
) -> list[Path]:
    """Draw a story: its sites, their plates, and what each depends on.

    Args:
        model: the story: a known name, path/to/story.py, or path/to/story.py:Class.
        guide: its guide, drawn below it.
        data: the data, of whose shape views are.
        network: of encoder and decoder.
        likelihood: p(x | z).
        latent_dim: D.
        out: a picture of the story, .pdf, .png or .svg, or its Graphviz source, .gv, and beside it that of the guide,
            NAME_guide; neither exists yet. Where Graphviz is absent, a picture becomes its source.

    Returns:
        The files written: of the story and of the guide. The drawing in plain text is printed.

    Raises:
        InputError: parts that do not fit together; a program that does not run; an `out` that cannot be used.
    """
    made = parts(data, network, likelihood, count("latent_dim", latent_dim), num_groups=2, num_views=2, seed=SEED)
    with rng.isolated(SEED):
        story = made.story(model)
        beside = made.guide(guide, story)
    programs: list[tuple[str, nn.Module, dict[str, Any]]] = [
        ("story", story, {}),
        ("guide", beside, {"x": made.x} | accepted(beside, made.observed)),
    ]
    files = [] if out is None else _files(Path(out))
    for name, program, arguments in programs:
        print(f"{name} {type(program).__name__}\n{text(program, **arguments)}\n")
    for file, (_, program, arguments) in zip(files, programs, strict=False):
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn = _digraph(program, **arguments)
        if file.suffix == ".gv":
            write_text(file, drawn.source)
        else:
            file.write_bytes(drawn.pipe(format=file.suffix[1:]))
        print(f"drawn: {file}")
    if files and files[0].suffix != Path(str(out)).suffix:
        print(f"Graphviz is not installed, so that its source was written: dot -Tpdf {files[0]} -O draws it elsewhere")
    return files


def text(program: nn.Module, x: Tensor | Modalities | None = None, **observed: Tensor) -> str:
    """A program in plain text: plates as blocks, a site a line, with its distribution, event shape and parents.

    Args:
        program: a story, or a guide, which needs `x`.
        x: views; None draws from the story's prior.
        observed: "labels" and "index" of the groups, for a program that asks for them.

    Raises:
        InputError: the program does not run.
    """
    parents: dict[str, list[str]] = _run(get_model_relations, program, x, observed)["sample_sample"]
    lines: list[tuple[str, str, str]] = []
    open_plates: list[str] = []
    for site in rows(record(program, *_arguments(x, observed)).sites):
        shared = next(
            (i for i, (a, b) in enumerate(zip(open_plates, site.plates, strict=False)) if a != b),
            min(len(open_plates), len(site.plates)),
        )
        lines += [("│ " * depth + f"plate {site.plates[depth]}", "", "") for depth in range(shared, len(site.plates))]
        open_plates = list(site.plates)
        kind = "observed" if is_view(site.name) else site.kind
        shape = f" {site.event_shape}" if site.event_shape else ""
        drawn = f"{'│ ' * len(site.plates)}{site.name} ~ {site.distribution}{shape}"
        depends = parents.get(site.name, [])
        lines.append((drawn, f"← {', '.join(depends)}" if depends else "", "" if kind == "latent" else kind))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in lines)


def source(program: nn.Module, x: Tensor | Modalities | None = None, **observed: Tensor) -> str:
    """A program as `pyro.render_model` draws it, in Graphviz's language; arguments and errors as of `text`."""
    drawn: str = _digraph(program, x, **observed).source
    return drawn


def _digraph(program: nn.Module, x: Any = None, **observed: Tensor) -> Any:
    return _run(pyro.render_model, program, x, observed, render_distributions=True)


def _run(function: Any, program: nn.Module, x: Any, observed: dict[str, Tensor], **options: Any) -> Any:
    """One of Pyro's inspections of a program."""

    def drawable() -> None:
        args, kwargs = _arguments(x, observed)
        with _Drawable():
            program(*args, **kwargs)

    with local_params(program), evaluating(program):
        try:
            return function(drawable, **options)
        except Exception as error:  # whatever a user's file may raise
            raise InputError(
                f"{type(program).__name__} cannot be drawn, since it does not run ({mistake_and_mend(error)[0]}): "
                "see what pyro-simvae check says"
            ) from error


def _arguments(x: Any, observed: Mapping[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A program's positional and named arguments: views, or two groups of the prior."""
    return ((), {"num_groups": 2, **observed}) if x is None else ((x,), {**observed})


class _Drawable(Messenger):
    """Views count as observed, improper sites get a value, and a lazily decoded likelihood shows its distribution."""

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], Decoded):
            msg["fn"] = msg["fn"].distribution
        if not msg["is_observed"] and is_view(msg["name"]):
            msg["value"], msg["done"], msg["is_observed"] = msg["fn"].sample(), True, True
        elif not msg["is_observed"] and is_improper(msg["fn"]):
            msg["value"], msg["done"] = torch.zeros(msg["fn"].batch_shape + msg["fn"].event_shape), True


def _files(out: Path) -> list[Path]:
    """What will be written for `out`, and for the guide beside it."""
    if out.suffix not in SUFFIXES:
        raise InputError(f"{out} is no picture: give --out NAME{', NAME'.join(SUFFIXES)}")
    if out.suffix != ".gv" and shutil.which("dot") is None:
        out = out.with_suffix(".gv")
    files = [out, out.with_stem(f"{out.stem}_guide")]
    for file in files:
        if file.exists():
            raise InputError(f"{file} exists: choose another --out")
    return files
