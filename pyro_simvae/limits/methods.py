"""The limits as tables and a page, all of it made from their claims and docstrings.

    python -m pyro_simvae.limits.methods FOLDER

writes the parts of README.md and docs/methods.md in FOLDER that stand between the markers.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.box import HORIZONTALS
from rich.table import Table
from rich.text import Text

from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.limits import LIMITS, Limit

BEGIN, END = "<!-- from the claims: make docs -->", "<!-- end -->"
COLUMNS = ("limit", "claim", "geometry", "content", "entropy", "tested against", "to")
SHARED = ("content", "t")
"""Arguments that every limit has; the page explains them once."""
SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Source")


def select(names: Iterable[str]) -> dict[str, type[Limit]]:
    """The limits of these names, in their order; all for none.

    Raises:
        InputError: an unknown name, with the nearest.
    """
    chosen = {}
    for name in names:
        if name not in LIMITS:
            raise unknown_name("limit", name, LIMITS)
        chosen[name] = LIMITS[name]
    return chosen or dict(LIMITS)


def row(name: str) -> tuple[str, ...]:
    """What a table says of a limit, a cell for each of `COLUMNS`."""
    claim = LIMITS[name].claim
    tolerance = f"{claim.tested_to:.0e}".replace("e-0", "e-")
    return name, claim.kind, claim.geometry, claim.content, claim.entropy, claim.reference, tolerance


def terminal_table(names: Iterable[str]) -> Table:
    """The claims for the terminal: a row a limit."""
    table = Table(box=HORIZONTALS, show_lines=True, expand=True, pad_edge=False)
    for heading, ratio in zip(COLUMNS, (0, 13, 14, 14, 24, 16, 0), strict=True):
        table.add_column(heading, no_wrap=not ratio, ratio=ratio or None, overflow="fold")
    for name in names:
        # Text, since square brackets in a claim are not markup.
        table.add_row(*(Text(cell, style="bold" if cell == name else "") for cell in row(name)))
    return table


def markdown_table() -> str:
    """The claims of all limits in Markdown: a row a limit."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [(f"`{name}`", *(cell.replace("|", "\\|") for cell in row(name)[1:])) for name in LIMITS]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def page() -> str:
    """A section for every family of limits, the module that holds them, and in it one for every limit."""
    families: dict[str, list[str]] = {}
    for name, limit in LIMITS.items():
        families.setdefault(limit.__module__, []).append(name)
    parts = []
    for module, names in families.items():
        title = module.rpartition(".")[2].replace("_", " ").capitalize()
        parts += [f"## {title}", _linked(inspect.getdoc(sys.modules[module]) or "")]
        parts += [section(name) for name in names]
    return "\n\n".join(part for part in parts if part)


def section(name: str) -> str:
    """What the page says of one limit."""
    limit = LIMITS[name]
    claim = limit.claim
    facts = {
        "Claim": f"{claim.kind}. {claim.statement}",
        "Geometry": claim.geometry,
        "Content": claim.content,
        "Entropy": claim.entropy,
        "Parameters": claim.parameters,
        "Source": claim.source,
        "Tested against": f"{claim.reference}; value and gradient to a relative {row(name)[-1]}",
    }
    lines = [f"- **{key}**: {_linked(value)}" for key, value in facts.items()]
    if arguments := list(_arguments(limit)):
        lines += ["- **Arguments**:", *(f"  - {_linked(line)}" for line in arguments)]
    body = _sections(inspect.getdoc(limit) or "")[""]
    return "\n\n".join([f"### {limit.__name__}: `{name}`", _linked(body), "\n".join(lines)])


def replace(text: str, generated: str) -> str:
    """`text` with `generated` between its markers.

    Raises:
        InputError: the markers are not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise InputError(f"there is no place for the limits: write {BEGIN} and {END} on lines of their own")
    return f"{head}{begin}\n\n{generated}\n\n{end}{tail}"


def write(folder: Path) -> None:
    """Writes the generated parts of README.md and docs/methods.md in `folder`."""
    for path, generated in ((folder / "README.md", markdown_table()), (folder / "docs" / "methods.md", page())):
        path.write_text(replace(path.read_text(encoding="utf-8"), generated), encoding="utf-8")


# -- docstrings -------------------------------------------------------------------------------------------------


def _sections(doc: str) -> dict[str, str]:
    """A docstring by its headings, such as "Args"; what stands before the first is ""."""
    heading = re.compile(rf"^({'|'.join(SECTIONS)}):[ \n]", re.MULTILINE)
    body, *rest = heading.split(doc)
    return {"": body.strip()} | dict(zip(rest[::2], rest[1::2], strict=True))


def _arguments(limit: type[Limit]) -> Iterator[str]:
    """A line for each of the limit's own arguments: names, defaults and what the docstring says."""
    parameters = inspect.signature(limit).parameters
    left = [name for name in parameters if name not in SHARED]
    for cls in limit.__mro__:
        own_doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
        for names, meaning in _described(_sections(own_doc).get("Args", "")):
            if own := [name for name in names if name in left]:
                left = [name for name in left if name not in own]
                yield f"{', '.join(_default(parameters[name]) for name in own)}: {meaning}"
    yield from (_default(parameters[name]) for name in left)


def _described(args: str) -> Iterator[tuple[list[str], str]]:
    """Names and meaning of every entry of an "Args" section."""
    for entry in re.split(r"\n(?=\w)", inspect.cleandoc(args)):
        names, _, meaning = entry.partition(": ")
        yield names.split(", "), " ".join(meaning.split())


def _default(parameter: inspect.Parameter) -> str:
    required = parameter.default is inspect.Parameter.empty
    return f"`{parameter.name}`" if required else f"`{parameter.name} = {parameter.default}`"


def _linked(text: str) -> str:
    """The text with arXiv numbers as links."""
    return re.sub(r"arXiv:([\w.-]+/\d+|\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
