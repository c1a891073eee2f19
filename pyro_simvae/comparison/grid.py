"""The grid of a comparison: which methods, on which data, with which seeds; read from a YAML file."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

from pyro_simvae import commands
from pyro_simvae.comparison.methods import METHODS, RAW, UNTRAINED, Method, merged
from pyro_simvae.components import Spec, load_class, normalize
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.evaluation.score import FAMILIES, choose
from pyro_simvae.experiment import Config
from pyro_simvae.inference.settings import Hardware, Training

SETTINGS: dict[str, Any] = {"training": Training, "hardware": Hardware}
OPTIONS = [name for name in Config.__dataclass_fields__ if name not in ("data", "seed")]
"""Options of `fit` that the methods of a comparison may set."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid: a method on a data set with a seed."""

    data: str
    method: str
    seed: int
    config: Config

    def folder(self, out: Path) -> Path:
        """The run folder."""
        return out / "runs" / self.data / self.method / f"seed-{self.seed}"

    def __str__(self) -> str:
        return f"{self.data} {self.method} seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """Methods x seeds x data.

    Args:
        base: options of `fit` that all methods share.
        data: specs by name.
        methods: by name.
        seeds: in order; the pictures are those of the first.
        reference: the method that the others are tested against.
        metrics: families of metrics; all by default.
    """

    base: Mapping[str, Any]
    data: Mapping[str, Spec]
    methods: Mapping[str, Method]
    seeds: tuple[int, ...]
    reference: str
    metrics: tuple[str, ...] | None = None

    def cells(self) -> list[Cell]:
        """The runs: every fitted method, the first seed of all before the second of any.

        Raises:
            InputError: options that `fit` does not have, or that name what is not known.
        """
        return [
            Cell(data, name, seed, _config(spec, merged(self.base, method.options), seed))
            for seed in self.seeds
            for data, spec in self.data.items()
            for name, method in self.methods.items()
            if method.fitted
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `parse` reads again."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["methods"] = {name: {"title": m.title, **m.options} for name, m in self.methods.items()}
        plain["seeds"] = list(self.seeds)
        plain["metrics"] = None if self.metrics is None else list(self.metrics)
        return yaml.safe_load(yaml.safe_dump(plain, sort_keys=False))


def read(path: Path) -> Grid:
    """The grid that a YAML file describes.

    Raises:
        InputError: the file cannot be read as YAML, or `parse` refuses what it holds.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: give a comparison's YAML file, such as configs/compare/digits.yaml")
    try:
        plain = get_loader("yaml")(path.read_text(encoding="utf-8"))  # unlike PyYAML's, it reads 1e-3 as a number
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML ({str(error).splitlines()[0]}): correct it") from error
    if not isinstance(plain, Mapping):
        raise InputError(f"{path} holds no comparison: it needs the entries data, methods and seeds")
    return parse(plain)


def parse(plain: Mapping[str, Any]) -> Grid:
    """The grid of a mapping with the entries base, data, methods, seeds, reference and metrics.

    `data` and `methods` are lists of names, or mappings from a name to its spec and to its options. A known method's
    options are laid over its own, and `title` names it in tables; a method of another name is made of its options
    alone. Raw input is scored by the run of the untrained guide, which it brings along.

    Raises:
        InputError: an unknown entry, method or metric; no data, methods or seeds; a name given twice, or none that a
            folder can have.
    """
    known = [field.name for field in fields(Grid)]
    for key in plain:
        if key not in known:
            raise unknown_name("entry of the comparison", str(key), known)
    data = {_folder_name(name): spec for name, spec in _data(plain.get("data") or []).items()}
    methods = {_folder_name(name): _method(name, options) for name, options in _methods(plain.get("methods") or [])}
    if RAW in methods and UNTRAINED not in methods:
        methods[UNTRAINED] = METHODS[UNTRAINED]
    seeds = plain.get("seeds", [0])
    if not isinstance(seeds, Sequence) or not all(isinstance(seed, int) for seed in seeds):
        raise InputError(f"seeds is {seeds!r}: give a list of whole numbers, such as [0, 1, 2]")
    for name, values in (("data", data), ("methods", methods), ("seeds", seeds)):
        if not values:
            raise InputError(f"the comparison has no {name}: give one or more")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds is {seeds}, with one given twice: give each once")
    reference = plain.get("reference") or ("simvae" if "simvae" in methods else next(iter(methods)))
    if reference not in methods:
        raise unknown_name("reference", str(reference), methods)
    metrics = plain.get("metrics")
    if metrics is not None:
        metrics = tuple(choose("metric", metrics, FAMILIES))
    base = dict(plain.get("base") or {})
    return Grid(base, data, methods, tuple(seeds), reference, metrics)


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def _data(data: Any) -> dict[str, Spec]:
    if isinstance(data, str):
        data = [data]
    if isinstance(data, Mapping):
        named = [(str(name), name if spec is None else spec) for name, spec in data.items()]
    else:
        named = [(_data_name(spec), spec) for spec in data]
    for _, spec in named:
        load_class("data", normalize("data", spec)["class_path"])
    return _once("data", named)


def _data_name(spec: Spec) -> str:
    """digits for digits, folder-cats for folder:images/cats, Story for path/to/file.py:Story."""
    plain = normalize("data", spec)
    name = plain["class_path"].rpartition(":")[2]
    name = name if name.count(".") == 0 else name.rpartition(".")[2]
    path = plain["init_args"].get("path")
    return f"{name}-{Path(path).stem}" if path else name


def _methods(methods: Any) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(methods, Mapping):
        return [(str(name), options or {}) for name, options in methods.items()]
    named: list[tuple[str, Any]] = [(str(name), {}) for name in methods]
    return list(_once("method", named).items())


def _once(kind: str, named: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the {kind} {name!r} is given twice: write {kind} as a mapping, with a name for each")
    return dict(named)


def _method(name: str, options: Mapping[str, Any]) -> Method:
    if not isinstance(options, Mapping):
        raise InputError(f"the method {name!r} is {options!r}: give options of fit, such as {{latent_dim: 10}}")
    options = dict(options)
    title = str(options.pop("title", METHODS[name].title if name in METHODS else name))
    if name not in METHODS:
        if not options:
            raise unknown_name("method", name, METHODS)
        return Method(title, merged({}, options))
    known = METHODS[name]
    if options and not known.fitted:
        raise InputError(f"the method {name!r} is not fitted, so it has no options: leave out {', '.join(options)}")
    return replace(known, title=title, options=merged(known.options, options))


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+=-]*", name):
        raise InputError(f"{name!r} cannot name a folder: use letters, digits and any of _ . + = -")
    return name


def _config(data: Spec, options: Mapping[str, Any], seed: int) -> Config:
    """What `fit` would be asked for, its defaults filled in."""
    defaults = {name: p.default for name, p in inspect.signature(commands.fit).parameters.items()}
    values = {name: defaults[name] for name in OPTIONS}
    for key, value in options.items():
        if key not in OPTIONS:
            raise unknown_name("option of fit", key, OPTIONS)
        values[key] = _settings(key, value) if key in SETTINGS else value
    config = Config(**values, data=data, seed=seed)
    if config.hardware != config.hardware.one_device:
        raise InputError("a comparison fits one method on each device: leave out hardware.devices and num_nodes")
    config.to_dict()  # finds names that are not known
    return config


def _settings(key: str, value: Any) -> Any:
    known = SETTINGS[key].__dataclass_fields__
    if not isinstance(value, Mapping):
        raise InputError(f"{key} is {value!r}: give its settings, such as {next(iter(known))}, as a mapping")
    for name in value:
        if name not in known:
            raise unknown_name(f"setting of {key}", name, known)
    return SETTINGS[key](**value)
