"""The command line: each command is one typed function, imported when it is asked for."""

import errno
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from pyro_simvae.errors import InputError

COMMANDS = {
    "new": "Begin a story of your own: a commented copy of a known one, to edit.",
    "check": "Look for mistakes in a story by running it, and say how to mend each.",
    "graph": "Draw a story: its sites, their plates, and what each depends on.",
    "fit": "Fit a generative story and its guide to groups of views by SVI.",
    "evaluate": "Score what a run's representation keeps of content and style, how healthy it is, and what its story "
    "generates.",
    "encode": "Write what a run's encoder makes of each item of a split, as arrays for your own analysis.",
    "inspect": "Write a run's posterior as ArviZ data, say whether its guide can be trusted, and draw it.",
    "explore": "Write a page in which to look around in a run's latents, image by image.",
    "sample": "Draw groups of views from a fitted story's prior.",
    "limits": "List the discriminative limits of the story and what each claims, or draw the densities that they "
    "induce.",
    "compare": "Fit and evaluate methods x seeds x data, and set their scores side by side in tables and one page.",
}
"""The first line of each command's docstring; here, so that nothing heavy is imported to list them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0; 1 where `check` found a fault; 2 for an input that cannot be used; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given and given[0] in COMMANDS else ""
    out = ""
    try:
        if not name:
            parser().parse_args(given)
            parser().print_help()
            return 0
        from pyro_simvae import arguments as args

        command = _command(name)
        parsed = _parsed(name, command, given[1:])
        options = args.options(name, parsed)
        if options.get("resume") and (folder := args.own_folder(given, parsed)):
            options["out"] = folder
        out = options.get("out") or ""
        result = command(**options)
    except KeyboardInterrupt:
        again = f"pyro-simvae fit --config RUN/config.yaml --resume true  (RUN: {out})"
        print(f"stopped; go on with{f': {again}' if name == 'fit' else ' the same command'}", file=sys.stderr)
        return 130
    except (InputError, ArgumentError) as error:
        return 2 if name == "fit" and _others_say_it() else _refuse(_one_line(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (Python flushes it at its end)
        return 0
    except OSError as error:
        then = "add --resume true" if name == "fit" else "repeat the command"
        full = error.errno == errno.ENOSPC
        mend = f"free some space, then {then}" if full else "choose a path that can be used"
        return _refuse(f"{error.strerror or error}: {error.filename or out}: {mend}")
    return 1 if name == "check" and result.faults else 0


def _parsed(name: str, command: Callable[..., Any], given: Sequence[str]) -> Any:
    """The command's options. Raises ArgumentError or InputError for words that are none."""
    from pyro_simvae import arguments as args

    made = parser(name, command)
    words = args.words(name, given)
    try:
        return made.parse_args([name, *words])[name]
    except ArgumentError as error:
        unknown = re.search(r"[Uu]nrecognized arguments: (--\S+)", str(error))
        if unknown is None:
            raise
        alone = ArgumentParser(exit_on_error=False)
        args.add_arguments(alone, name, command)
        raise InputError(f"unknown option {unknown[1]}{args.nearest(unknown[1], alone)}") from error


def parser(name: str = "", command: Callable[..., Any] | None = None) -> ArgumentParser:
    """The parser of all commands, with the options of the one that is named."""
    settings: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "formatter_class": _Help}
    arguments: Any = None if command is None else importlib.import_module("pyro_simvae.arguments")
    if arguments is not None:
        settings["parser_mode"] = arguments.register_mode()
    root = ArgumentParser(
        prog="pyro-simvae", description="Self-supervised learning as an explicit Pyro program.", **settings
    )
    subcommands = root.add_subcommands(required=False, metavar="COMMAND")
    for each, line in COMMANDS.items():
        sub = ArgumentParser(description=line, **settings)
        if each == name and arguments is not None:
            arguments.add_arguments(sub, name, command)
        subcommands.add_subcommand(each, sub, help=line)
    return root


class _Help(DefaultHelpFormatter):
    """Without the import paths of all classes that could be named: the names themselves stand before them."""

    def _get_help_string(self, action: Any) -> str:
        return re.sub(", known subclasses: [^)]*", "", super()._get_help_string(action))


def _command(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module("pyro_simvae.commands"), name)
    return found


def _refuse(message: str) -> int:
    print(f"pyro-simvae: error: {message}", file=sys.stderr)
    return 2


def _others_say_it() -> bool:
    """Whether torchrun or srun has started this process beside a first one, which fails for the same reason."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) > 0


def _one_line(error: Exception) -> str:
    # Pyro appends its trace to any error raised inside a program; the first line is the message itself.
    message = " ".join(str(error).split("\nTrace Shapes")[0].split())
    # jsonargparse says of an option that may be left out all that it could have been.
    inner = re.match(
        r"Parser key \"(\w+)\": .*? class_path '[^']*': (.*?) - (?:Import path|Expected a <class)", message
    )
    return message if inner is None else f'Parser key "{inner[1]}": {inner[2]}'


if __name__ == "__main__":
    sys.exit(main())
