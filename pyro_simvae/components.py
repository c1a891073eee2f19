"""From a name in a command or a config to an object: data, views, networks, likelihoods, stories, guides, limits."""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro.nn import PyroModule

from pyro_simvae.data import DATASETS, PRESETS, Augmentation, Dataset, OwnAugmentation
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.likelihoods import Likelihood
from pyro_simvae.limits import LIMITS, Limit
from pyro_simvae.networks import Network

Spec = str | Mapping[str, Any]
"""A name ("simvae"), a class in a file ("path/to/story.py:Story", or "path/to/story.py" where the file defines one
story), an import path ("package.module.Class"), for data also "folder:PATH", "shards:PATTERN", "arrays:PATH" and
"paired_folder:PATH"; or any of these as {"class_path": ..., "init_args": {...}}. In Python a class stands for its
import path."""

KNOWN: dict[str, dict[str, str]] = {
    "data": DATASETS,
    "views": {name: f"{cls.__module__}.{cls.__name__}" for name, cls in PRESETS.items()},
    "network": {
        "mlp": "pyro_simvae.networks.MLP",
        "conv": "pyro_simvae.networks.Conv",
        "resnet18": "pyro_simvae.networks.ResNet18",
        "linear": "pyro_simvae.networks.Linear",
    },
    "likelihood": {
        "bernoulli": "pyro_simvae.likelihoods.Bernoulli",
        "continuous_bernoulli": "pyro_simvae.likelihoods.ContinuousBernoulli",
        "normal": "pyro_simvae.likelihoods.Normal",
        "categorical": "pyro_simvae.likelihoods.Categorical",
    },
    "model": {
        "simvae": "pyro_simvae.models.SimVAE",
        "vae": "pyro_simvae.models.VAE",
        "linear": "pyro_simvae.models.LinearGaussian",
        "mixture": "pyro_simvae.models.Mixture",
        "instance": "pyro_simvae.models.Instance",
        "spherical": "pyro_simvae.models.Spherical",
        "multimodal": "pyro_simvae.models.Multimodal",
        "private_style": "pyro_simvae.models.PrivateStyle",
        "heavy_tails": "pyro_simvae.models.HeavyTails",
        "hierarchical": "pyro_simvae.models.Hierarchical",
        "relevance": "pyro_simvae.models.Relevance",
    },
    "guide": {
        "mean_field": "pyro_simvae.guides.MeanField",
        "full_covariance": "pyro_simvae.guides.FullCovariance",
        "flow": "pyro_simvae.guides.Flow",
        "semi_amortized": "pyro_simvae.guides.SemiAmortized",
        "consistent": "pyro_simvae.guides.Consistent",
        "exact": "pyro_simvae.guides.Exact",
        "spherical": "pyro_simvae.guides.SphericalMeanField",
    },
    "limit": {name: f"pyro_simvae.limits.{name}" for name in LIMITS},
}
BASES: dict[str, tuple[type, ...]] = {
    "data": (Dataset,),
    "views": (Augmentation, OwnAugmentation),
    "network": (Network,),
    "likelihood": (Likelihood,),
    "model": (PyroModule,),
    "guide": (PyroModule,),
    "limit": (Limit,),
}
"""What a class of each kind is derived from, one of these."""
GIVEN = {
    "data": (),
    "views": (),
    "network": (),
    "likelihood": ("decoder",),
    "model": ("likelihood", "latent_dim", "num_items"),
    "guide": ("model", "encoder"),
    "limit": ("num_items", "num_classes"),
}
"""The constructor arguments that an experiment supplies itself; all others are the user's options."""
ON_REQUEST = ("num_items", "num_classes")
"""Of these, the ones that only a class with such an argument gets."""
PLACES = ("path", "root", "pattern", "valid_pattern", "test_pattern")
"""Arguments of our data sets that say where files lie."""


def normalize(kind: str, spec: Spec | type) -> dict[str, Any]:
    """{"class_path", "init_args"} of any form of a spec; the class path stays as it was written, but for the class of
    a file that names none.

    Raises:
        InputError: neither a name nor a class that a name stands for.
    """
    if inspect.isclass(spec):
        if spec.__module__ == "__main__" or "<locals>" in spec.__qualname__:
            raise InputError(
                f"the {kind} {spec.__name__} is defined in a notebook or script, and a run keeps its parts by name: "
                "write it to a file, and give path/to/file.py"
            )
        spec = f"{spec.__module__}.{spec.__qualname__}"
    if not isinstance(spec, (str, Mapping)):
        raise InputError(f"the {kind} is a {type(spec).__name__}: give a name, path/to/file.py:Class, or a class")
    if not isinstance(spec, Mapping):
        spec = {"class_path": spec}
    if unknown := set(spec) - {"class_path", "init_args"}:
        raise unknown_name(f"key of {kind}", sorted(unknown)[0], ["class_path", "init_args"])
    class_path, init_args = str(spec.get("class_path")), dict(spec.get("init_args") or {})
    prefix, _, path = class_path.partition(":")
    if kind == "data" and prefix in ("folder", "shards", "arrays", "paired_folder") and path:
        class_path, init_args["pattern" if prefix == "shards" else "path"] = prefix, path
    if class_path.endswith(".py"):
        class_path += f":{_only_class(kind, Path(class_path)).__name__}"
    return {"class_path": class_path, "init_args": init_args}


def complete(kind: str, spec: Spec) -> dict[str, Any]:
    """The spec with the defaults of the class's own arguments written out, and where data lies as an absolute path."""
    spec = normalize(kind, spec)
    cls = load_class(kind, spec["class_path"])
    own = own_arguments(kind, cls)
    defaults = {name: p.default for name, p in own.items() if p.default is not inspect.Parameter.empty}
    init_args = defaults | spec["init_args"]
    if cls.__module__.startswith("pyro_simvae.data"):  # found again from another folder
        for name in PLACES:
            if isinstance(place := init_args.get(name), str) and place != defaults.get(name):
                init_args[name] = os.path.abspath(os.path.expanduser(place))
    return {"class_path": spec["class_path"], "init_args": init_args}


def load_class(kind: str, name: str) -> type:
    """The class behind a known name, "file.py:Class" or an import path.

    Raises:
        InputError: there is none, with the nearest names; it is of another kind.
    """
    found = _load_class(kind, name)
    if not issubclass(found, BASES[kind]):
        raise InputError(f"{name} cannot be the {kind}: derive {found.__name__} from {_bases(kind)}")
    return found


def _load_class(kind: str, name: str) -> type:
    path, _, class_name = name.rpartition(":")
    if path.endswith(".py"):
        return _attribute(load_file(Path(path)), class_name, name)
    known = KNOWN[kind]
    dotted = known.get(name.lower(), name)
    module_name, _, class_name = dotted.rpartition(".")
    if not module_name:
        raise unknown_name(kind, name, known)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise  # the module exists, and something that it needs does not
        raise unknown_name(kind, name, known) from error
    return _attribute(module, class_name, name)


def load_file(path: Path) -> Any:
    """A Python file as a module; the same file gives the same module, until it is edited.

    Raises:
        InputError: it cannot be run, or imports a file beside it.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}: give path/to/file.py:Class")
    resolved = str(path.resolve())
    stem = "".join(letter if letter.isalnum() else "_" for letter in path.stem)
    module_name = f"user_{stem}_{hashlib.sha1(resolved.encode() + path.read_bytes()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, resolved)
        if spec is None or spec.loader is None:
            raise InputError(f"{path} is not a Python file: give path/to/file.py:Class")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a user's file may raise
            del sys.modules[module_name]
            name = getattr(error, "name", None) or ""
            beside = path.parent / name.partition(".")[0]
            if isinstance(error, ModuleNotFoundError) and name and (beside.is_dir() or Path(f"{beside}.py").is_file()):
                # A run folder keeps a copy of this file, and would lack the other.
                raise InputError(
                    f"{path} imports {name} from beside it, and should stand alone: put what it needs into it, "
                    "or install that as a package"
                ) from error
            raise InputError(f"{path} cannot be imported, {type(error).__name__}: {error}") from error
    return sys.modules[module_name]


def _only_class(kind: str, path: Path) -> type:
    """The one class for a kind that a file defines. Raises InputError where there is none, or more."""
    file = load_file(path)
    defined = [c for c in vars(file).values() if inspect.isclass(c) and c.__module__ == file.__name__]
    found = [c for c in defined if issubclass(c, BASES[kind])]
    if not found:
        raise InputError(f"{path} defines no {kind}: derive a class from {_bases(kind)}")
    if len(found) > 1:
        names = ", ".join(c.__name__ for c in found)
        raise InputError(f"{path} should define one {kind}, and defines {names}: say which, as in {path}:Class")
    return found[0]


def _bases(kind: str) -> str:
    return " or ".join(f"{base.__module__}.{base.__qualname__}" for base in BASES[kind])


def own_arguments(kind: str, cls: type) -> dict[str, inspect.Parameter]:
    """The constructor arguments of a component that are the user's options."""
    named = [p for p in inspect.signature(cls).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p for p in named if p.name not in GIVEN[kind]}


def _attribute(module: Any, class_name: str, spec: str) -> type:
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise unknown_name(f"class in {spec!r}", class_name, classes)
    return found


def build(kind: str, spec: Spec, **given: Any) -> Any:
    """An object from its spec.

    Args:
        kind: a key of `KNOWN`.
        spec: which class, with which of its own arguments.
        given: the arguments named in `GIVEN[kind]`.

    Raises:
        InputError: an unknown name or argument, with the nearest known; a missing argument.
    """
    spec = normalize(kind, spec)
    cls = load_class(kind, spec["class_path"])
    parameters, own = inspect.signature(cls).parameters, own_arguments(kind, cls)
    for name in spec["init_args"]:
        if name not in own:
            raise unknown_name(f"argument of {cls.__name__}", name, own)
    missing = [n for n, p in own.items() if p.default is inspect.Parameter.empty and n not in spec["init_args"]]
    if missing:
        raise InputError(f"{cls.__name__} needs the argument {missing[0]!r}: give --{kind}.{missing[0]}")
    given = {name: value for name, value in given.items() if name in parameters or name not in ON_REQUEST}
    return cls(**given, **spec["init_args"])
