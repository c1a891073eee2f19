"""The command `new`: begins a story of one's own with a commented copy of a known one."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pyro_simvae.components import KNOWN, load_class
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.inference.files import write_text

OPTIONS = {
    "linear": " --network linear --likelihood normal",
    "spherical": " --guide spherical",
    "multimodal": " --data paired_digits",
}
"""What a story needs besides the defaults."""

HEADER = """\
# A story of your own, begun as a copy of `{story}`. All of it may be edited; a comment that begins with KEEP says what
# everything else relies on. Where the distribution of a site is a method, edit it there.
#
#     pyro-simvae check {path}{options}
#     pyro-simvae graph {path}{options}
#     pyro-simvae fit --model {path}{options} --out runs/{stem}

"""

NOTES = {
    "__init__": (
        "KEEP likelihood and latent_dim: the experiment gives them (and num_items, the number of training groups,"
        " to a story that asks for it). Every other argument is yours and becomes an option, --model.NAME: give "
        "it a type and a default. What is learned is an nn.Parameter or, with a constraint, a PyroParam; a "
        "constant tensor is a buffer."
    ),
    "forward": (
        "KEEP x, num_groups, num_views: where x is None they draw from the prior, else the plates have x's sizes."
        " An argument labels or index, (N,), is given what the data knows of each group."
    ),
    "groups": (
        'KEEP the plates: "groups" at dim -2 for what is drawn once a group, and inside it "views" at dim -1 for '
        "what is drawn once a view. Add sites of your own in either: the guide gets a factor for each. A site "
        "outside of both is shared by all groups: put it under poutine.scale(scale=num_groups / num_items), so "
        "that it counts once."
    ),
    "content": (
        'KEEP the name "content", and one event dimension (by .to_event(1); Gaussian and Flat have it): (N, 1, '
        "D), or fewer than D. Edit what the views of a group share and how it is distributed, or do without."
    ),
    "z": (
        'KEEP the name "z", and one event dimension: (N, J, D). Edit how the latent of a view depends on what is '
        "shared, which is its style."
    ),
    "x": (
        'KEEP obs, and the name "x" ("x_NAME" for views of different kinds). Edit what the decoder sees of the '
        "latents; the likelihood is a normalized density of a whole view, chosen by --likelihood."
    ),
}
"""What can be edited and what is relied on, by the method, plate or site before which it is written."""


def new(path: str, story: str = "simvae") -> Path:
    """Begin a story of your own: a commented copy of a known one, to edit.

    Args:
        path: the file to write, NAME.py, which does not exist yet.
        story: the story to begin with, by its name.

    Returns:
        The file, ready for `--model NAME.py:Class`, with the class of the story.

    Raises:
        InputError: an unknown story; a path that exists, is no .py file or lies in no folder.
    """
    target = Path(path)
    if story not in KNOWN["model"]:
        raise unknown_name("story", story, KNOWN["model"])
    if target.suffix != ".py":
        raise InputError(f"{target} is no .py file: give a path such as my_story.py")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent}: make it, or choose another path")
    if target.exists():
        raise InputError(f"{target} exists: choose another path, or move it away")
    cls = load_class("model", story)
    named = f"{target}:{cls.__name__}"
    header = HEADER.format(story=story, path=named, options=OPTIONS.get(story, ""), stem=target.stem)
    write_text(target, header + commented(inspect.getsource(sys.modules[cls.__module__])))
    print(f"begun: {target}  (pyro-simvae check {named}{OPTIONS.get(story, '')})")
    return target


def commented(source: str) -> str:
    """The source of a story, with each of `NOTES` before the first statement that it is about."""
    lines = source.splitlines(keepends=True)
    first: dict[str, ast.stmt] = {}
    for key, statement in _places(ast.parse(source)):
        if key in NOTES and (key not in first or statement.lineno < first[key].lineno):
            first[key] = statement
    for key, statement in sorted(first.items(), key=lambda item: item[1].lineno, reverse=True):
        indent = " " * statement.col_offset + "# "
        note = textwrap.fill(NOTES[key], 120, initial_indent=indent, subsequent_indent=indent) + "\n"
        lines.insert(statement.lineno - 1, note)
    return "".join(lines)


def _places(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Constructor and program of the source, and its plates and sites, each with the statement that it begins in."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.FunctionDef) and statement.name in ("__init__", "forward"):
            yield statement.name, statement
        elif isinstance(statement, ast.With | ast.Assign | ast.Return | ast.Expr):
            inside = [item.context_expr for item in statement.items] if isinstance(statement, ast.With) else [statement]
            for call in (node for part in inside for node in ast.walk(part) if isinstance(node, ast.Call)):
                if ast.unparse(call.func) in ("pyro.plate", "pyro.sample"):
                    name = ast.unparse(call.args[0]).removeprefix("f").strip("'\"")
                    yield "x" if name.startswith("x_") else name, statement
