"""The command line: each command is one typed function of `pyro_simvae.commands`.

jsonargparse makes the options from the functions' signatures, and those of a component (`--model.style_scale`)
from the constructor of the class that was named. It wants import paths; this file turns the names that
people write (`simvae`, `path/to/story.py:Story`, `folder:PATH`) into such paths, and back for config.yaml.
"""

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_dumper, set_loader
from pyro.nn import PyroModule

from pyro_simvae import commands
from pyro_simvae.components import GIVEN, KNOWN, load_class, normalize
from pyro_simvae.data import Dataset
from pyro_simvae.errors import InputError
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.likelihoods import Likelihood
from pyro_simvae.limits import Limit
from pyro_simvae.networks import Network

BASES = {
    "data": Dataset,
    "network": Network,
    "likelihood": Likelihood,
    "model": PyroModule,
    "guide": PyroModule,
    "limit": Limit,
}
DEFAULTS = {
    "data": "digits",
    "network": "conv",
    "likelihood": "continuous_bernoulli",
    "model": "simvae",
    "guide": "mean_field",
}
COMMANDS: dict[str, Callable[..., Any]] = {
    "fit": commands.fit,
    "evaluate": commands.evaluate,
    "compare": commands.compare,
    "sample": commands.sample,
    "limits": commands.limits,
}
FIGURE = "draw the densities of a latent that the losses induce, to PATH.png (limits.png by default)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0, 2 for an input that cannot be used, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = out = ""
    try:
        parsed = parser().parse_args(list(_import_paths(arguments)))
        name = parsed.subcommand
        options = parsed[name].as_dict()
        out = options.get("out") or ""
        if name == "fit":
            del options["config"]
            named = {key for key in KNOWN if options[key] is not None}
            options = {key: _written(key, value) if key in named else value for key, value in options.items()}
            options["training"] = Training(**options["training"])
            options["hardware"] = Hardware(**options["hardware"])
        COMMANDS[name](**options)
    except KeyboardInterrupt:
        again = f"pyro-simvae fit --config RUN/config.yaml --resume true  (RUN: {out})"
        print(f"stopped; go on with{' the same command' if name == 'compare' else f': {again}'}", file=sys.stderr)
        return 130
    except (InputError, ArgumentError) as error:
        return _refuse(_one_line(error))
    except OSError as error:
        mend = (
            "free some space, then add --resume true"
            if error.errno == errno.ENOSPC
            else "choose a path that can be used"
        )
        return _refuse(f"{error.strerror or error}: {error.filename or out}: {mend}")
    return 0


def _refuse(message: str) -> int:
    print(f"pyro-simvae: error: {message}", file=sys.stderr)
    return 2


def _one_line(error: Exception) -> str:
    # Pyro appends its trace to any error raised inside a program; the first line is the message itself.
    return " ".join(str(error).split("\nTrace Shapes")[0].split())


def parser() -> ArgumentParser:
    """The parser of all commands."""
    set_loader("pyro-simvae", _load_config, exceptions=(yaml.YAMLError,))
    set_dumper("pyro-simvae", lambda value: yaml.safe_dump(value, sort_keys=False))
    options: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "parser_mode": "pyro-simvae"}
    root = ArgumentParser(
        prog="pyro-simvae", description="Self-supervised learning as an explicit Pyro program.", **options
    )
    subcommands = root.add_subcommands()
    for name, command in COMMANDS.items():
        sub = ArgumentParser(description=(command.__doc__ or "").split("\n")[0], **options)
        if name == "fit":
            sub.add_argument("--config", action="config", help="a YAML file of options, such as a run's config.yaml")
            for kind, base in BASES.items():
                default = {"class_path": _import_path(load_class(kind, DEFAULTS[kind]))} if kind in DEFAULTS else None
                sub.add_subclass_arguments(
                    base,
                    kind,
                    as_group=False,
                    skip=set(GIVEN[kind]),
                    instantiate=False,
                    default=default,
                    metavar="NAME",
                    help=f"{', '.join(KNOWN[kind])}; --{kind}.help NAME lists its own options",
                )
        if name == "limits":  # words and an option with or without a value, which a signature cannot say
            sub.add_argument("names", nargs="*", default=[], metavar="NAME", help="which limits; all by default")
            sub.add_argument("--figure", nargs="?", const="limits.png", metavar="PATH", help=FIGURE)
        else:
            skip: set[str | int] = set(KNOWN) if name == "fit" else set()
            sub.add_function_arguments(command, skip=skip, as_positional=name != "fit")
        subcommands.add_subcommand(name, sub)
    return root


# -- names to import paths and back -----------------------------------------------------------------------------


def _import_paths(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the names of components as import paths."""
    pending = None
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if pending:
            kind, pending = pending.removesuffix(".help"), None
            yield from _as_options(kind, argument, [])
        elif option.removeprefix("--") in KNOWN and equals:
            yield from _as_options(option.removeprefix("--"), value, [option])
        else:
            yield ".inf" if argument == "inf" else argument  # YAML's spelling
            name = argument.removeprefix("--")
            if argument.startswith("--") and name.removesuffix(".help") in KNOWN:
                pending = name


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


if __name__ == "__main__":
    sys.exit(main())
