"""The options of a command, made by jsonargparse from the signature of its function.

Those of a component (`--model.style_scale`) come from the constructor of the class that was named. jsonargparse wants
import paths; this file turns the names that people write (`simvae`, `path/to/story.py:Story`, `folder:PATH`) into such
paths, and back for config.yaml.
"""

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_dumper, set_loader

from pyro_simvae.components import BASES, GIVEN, KNOWN, load_class, normalize, own_arguments
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.inference.settings import Hardware, Training

KINDS = {
    "fit": list(BASES),
    "check": [kind for kind in BASES if kind not in ("views", "limit")],
    "graph": [kind for kind in BASES if kind not in ("views", "limit")],
}
"""The components that a command takes as options."""
ON_STORIES = ("check", "graph")
"""Commands whose first word is a story."""
FIGURE = "draw the densities of a latent that the losses induce, to PATH.png (limits.png by default)"
MODE = "pyro-simvae"


def words(name: str, arguments: Sequence[str]) -> list[str]:
    """The words of a command as its parser wants them: the story named, the names of components as import paths."""
    given = list(arguments)
    if name == "new":  # "from" is no name for an argument in Python
        return [re.sub("^--from(?==|$)", "--story", word) for word in given]
    if name == "fit":
        names = "|".join(field.name for field in fields(Hardware))
        given = [re.sub(f"^--({names})(?==|$)", r"--hardware.\1", word) for word in given]
    if name == "evaluate":  # one word for a list of one
        lists = "--(metrics|representations)"
        given = [re.sub(f"^{lists}=(?!\\[)(.*)$", r"--\1=[\2]", word) for word in given]
        after = [bool(re.fullmatch(lists, word)) for word in given]
        given[1:] = [f"[{w}]" if a and w[:1] != "[" else w for a, w in zip(after, given[1:], strict=False)]
    if name not in KINDS:
        return given
    if name in ON_STORIES:
        if not given:
            raise InputError(f"{name} needs a story: give path/to/story.py, or a name such as simvae")
        if not given[0].startswith("-"):
            given.insert(0, "--model")
    return list(_import_paths(_named_first(given)))


def register_mode() -> str:
    """How configs are read and written, as a `parser_mode` of jsonargparse."""
    set_loader(MODE, _load_config, exceptions=(yaml.YAMLError,))
    set_dumper(MODE, lambda value: yaml.safe_dump(value, sort_keys=False))
    return MODE


def add_arguments(parser: ArgumentParser, name: str, command: Callable[..., Any]) -> None:
    """Gives a command's parser the options of its function."""
    kinds = KINDS.get(name, [])
    if name == "fit":
        parser.add_argument("--config", action="config", help="a YAML file of options, such as a run's config.yaml")
    for kind in kinds:
        usual = inspect.signature(command).parameters[kind].default
        default = {"class_path": _import_path(load_class(kind, usual))} if isinstance(usual, str) else None
        parser.add_subclass_arguments(
            BASES[kind],
            kind,
            as_group=False,
            skip=set(GIVEN[kind]),
            instantiate=False,
            default=default,
            metavar="NAME",
            help=f"{', '.join(KNOWN[kind])}, or path/to/file.py; --{kind}.help NAME lists its own options",
        )
    if name == "limits":  # words and an option with or without a value, which a signature cannot say
        parser.add_argument("names", nargs="*", default=[], metavar="NAME", help="which limits; all by default")
        parser.add_argument("--figure", nargs="?", const="limits.png", metavar="PATH", help=FIGURE)
    else:
        skip: set[str | int] = set(kinds)
        parser.add_function_arguments(command, skip=skip, as_positional=not kinds)


def options(name: str, parsed: Namespace) -> dict[str, Any]:
    """The keyword arguments of a command's function."""
    found: dict[str, Any] = parsed.as_dict()
    for kind in KINDS.get(name, []):
        if found[kind] is not None:
            found[kind] = _written(kind, found[kind])
    if name == "fit":
        del found["config"]
        found["training"] = Training(**found["training"])
        found["hardware"] = Hardware(**found["hardware"])
    return found


def own_folder(given: Sequence[str], parsed: Namespace) -> str | None:
    """The run that `fit --config RUN/config.yaml --resume true` goes on with: the config's own folder.

    The file says where it was written, which a copied or renamed run no longer is. None without a config, or where
    --out says something else.
    """
    configs = parsed.get("config") or []
    if not configs or any(word.partition("=")[0] == "--out" for word in given):
        return None
    path = Path(str(configs[-1]))
    return str(path.parent) if path.name == "config.yaml" and (path.parent / "checkpoints").is_dir() else None


def nearest(option: str, parser: ArgumentParser) -> str:
    """What an unknown option may have been meant for: those of a like name, or that end in it."""
    known = sorted({word for action in parser._actions for word in action.option_strings if word.startswith("--")})
    leaf = option.partition("=")[0].removeprefix("--").rpartition(".")[2]
    leaf = {"batch_size": "num_groups", "lr": "learning_rate"}.get(leaf, leaf)
    ends = [word for word in known if word.endswith(f".{leaf}") and not word.endswith(".help")]
    near = ends or difflib.get_close_matches(option, known, n=3, cutoff=0.7)
    return f": did you mean {' or '.join(near)}?" if near else ""


# -- names to import paths and back -----------------------------------------------------------------------------


def _named_first(arguments: Sequence[str]) -> list[str]:
    """The same, with each component named before its options, which are those of the class that is named."""
    configs: list[str] = []
    first: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        option, equals, _ = word.partition("=")
        named = option.startswith("--") and option.removeprefix("--") in KNOWN
        place = configs if option == "--config" else first if named else rest
        place.append(word)
        if place is not rest and not equals:
            place += [value for value in [next(words, None)] if value is not None]
    return configs + first + rest  # a config comes before what changes it


def _import_paths(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the names of components as import paths."""
    pending = None
    named: dict[str, str] = {}
    in_config = any(map(_names_views, arguments))
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if pending:
            kind, pending = pending.removesuffix(".help"), None
            if argument == "null":
                yield argument
            else:
                named[kind] = argument
                yield from _as_options(kind, argument, [])
        elif option.removeprefix("--").removesuffix(".help") in KNOWN and equals and value != "null":
            kind = option.removeprefix("--").removesuffix(".help")
            named[kind] = value
            yield from _as_options(kind, value, [option])
        else:
            _check_option(option, named, in_config)
            yield ".inf" if argument == "inf" else argument  # YAML's spelling
            name = argument.removeprefix("--")
            if argument.startswith("--") and name.removesuffix(".help") in KNOWN:
                pending = name


def _names_views(word: str) -> bool:
    """Whether a word is a file of options that names the views."""
    path = Path(word.removeprefix("--config="))
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(value, dict) and value.get("views") is not None


def _check_option(option: str, named: dict[str, str], in_config: bool) -> None:
    """Raises InputError for an option that the component named before it does not have, with the nearest.

    The views that a data set chooses itself are not known yet, so that they have to be named to be changed.
    """
    kind, _, key = option.removeprefix("--").partition(".")
    if option.startswith("--views.") and key != "help" and kind not in named and not in_config:
        raise InputError(f"{option} changes views that are named: put them before it, as in --views crop {option}")
    if option.startswith("--") and kind in named and key not in ("", "help"):
        known = own_arguments(kind, load_class(kind, normalize(kind, named[kind])["class_path"]))
        if key.partition(".")[0] not in known:
            raise unknown_name(f"option of --{kind} {named[kind]}", key, known)


def _as_options(kind: str, name: str, option: list[str]) -> Iterator[str]:
    spec = normalize(kind, name)
    yield from option
    yield _import_path(load_class(kind, spec["class_path"]))
    for key, value in spec["init_args"].items():
        yield from (f"--{kind}.{key}", str(value))


def _load_config(text: str) -> Any:
    """YAML, with the components of a whole config as import paths."""
    value = get_loader("yaml")(text)  # unlike PyYAML's, it reads 1e-3 as a number
    if not isinstance(value, dict) or not set(value) & (set(KNOWN) | {"training"}):
        return value
    value = dict(value)
    for kind in (kind for kind in KNOWN if value.get(kind) is not None):
        spec = normalize(kind, value[kind])
        value[kind] = {**spec, "class_path": _import_path(load_class(kind, spec["class_path"]))}
    return value


def _written(kind: str, spec: Any) -> dict[str, Any]:
    """The spec as a person would write it: the name or the file in place of the import path."""
    spec = spec.as_dict() if isinstance(spec, Namespace) else spec
    cls = load_class(kind, spec["class_path"])
    names = [name for name in KNOWN[kind] if load_class(kind, name) is cls]
    module = sys.modules[cls.__module__]
    if module.__name__.startswith("user_"):
        names = [f"{module.__file__}:{cls.__name__}"]
    return {"class_path": (names or [spec["class_path"]])[0], "init_args": spec.get("init_args") or {}}


def _import_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
