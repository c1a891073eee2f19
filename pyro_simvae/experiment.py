"""An experiment: the configuration that a run folder stores, and the objects that it stands for."""

import itertools
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import nn

from pyro_simvae import components
from pyro_simvae.components import Spec
from pyro_simvae.data import Dataset, Split, Splits, Views
from pyro_simvae.data.paired import views_of
from pyro_simvae.errors import InputError, first_line, unknown_name
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inference.files import write_text
from pyro_simvae.inference.settings import Hardware, Training
from pyro_simvae.likelihoods import Categorical
from pyro_simvae.limits import Limit
from pyro_simvae.networks import MLP, Encoders, Network
from pyro_simvae.sites import check_story

TEXT_HIDDEN = (256,)
"""Width of the networks that read and write a few words."""


@dataclass(frozen=True)
class Config:
    """What a fit was asked for; `pyro_simvae.commands.fit` says what each entry means."""

    data: Spec
    views: Spec | None
    network: Spec
    likelihood: Spec
    model: Spec
    guide: Spec
    latent_dim: int
    training: Training
    hardware: Hardware
    seed: int
    limit: Spec | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; every component as {"class_path", "init_args"}, its defaults written out."""
        plain = asdict(self)
        plain |= {kind: components.complete(kind, plain[kind]) for kind in _named(self)}
        return yaml.safe_load(yaml.safe_dump(plain))  # tuples become lists, as in the file

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Config":
        """Raises InputError at an unknown or missing entry."""
        plain = {key: value for key, value in plain.items() if key not in ("out", "resume")}
        names = list(cls.__dataclass_fields__)
        for name in plain:
            if name not in names:
                raise unknown_name("entry of the config", name, names)
        try:
            settings = {"training": Training(**plain["training"]), "hardware": Hardware(**plain["hardware"])}
            return cls(**{**plain, **settings})
        except (KeyError, TypeError) as error:
            raise InputError(f"the config is not one that fit wrote ({error}): fit anew") from error


class Experiment(NamedTuple):
    """The objects of a `Config`, untrained."""

    dataset: Dataset
    splits: Splits
    views: Views
    pair: LedgerELBO

    @property
    def story(self) -> nn.Module:
        """The generative story itself, without the limit's handlers."""
        return getattr(self.pair.model, "story", self.pair.model)

    @property
    def guide(self) -> nn.Module:
        return self.pair.guide


def build(config: Config) -> Experiment:
    """Reads the data and makes the pair, initialized from the config's seed.

    Raises:
        InputError: whatever in the config cannot be used.
    """
    if config.latent_dim < 1:
        raise InputError(f"latent_dim is {config.latent_dim}: give 1 or more")
    with blaming(config):
        dataset: Dataset = components.build("data", config.data)
        splits = dataset.load()
        event_shape = splits.train.event_shape
        views = views_of(components.build("views", config.views or dataset.views), event_shape)
        return Experiment(dataset, splits, views, build_pair(config, splits.train))


def build_pair(config: Config, train: Split) -> LedgerELBO:
    """The story and its guide, under the limit if there is one, initialized from the config's seed.

    Raises:
        InputError: the parts do not fit together, or `train` lacks what the limit asks for.
    """
    event_shape: Any = train.event_shape  # of paired data, {modality: that of one view}
    with rng.isolated(config.seed):
        encoder, likelihood = encoder_and_likelihood(config.network, config.likelihood, event_shape, config.latent_dim)
        given = {"likelihood": likelihood, "latent_dim": config.latent_dim, "num_items": len(train)}
        model = components.build("model", config.model, **given)
        if isinstance(event_shape, Mapping) and not hasattr(model, "modalities"):
            raise InputError(
                f"the data pairs {', '.join(event_shape)}, and {type(model).__name__} is a story of one kind of view: "
                "use --model multimodal"
            )
        check_story(model, config.latent_dim, config.training.num_views)
        guide = components.build("guide", config.guide, model=model, encoder=encoder)
        if config.limit is not None:
            num_classes = 0 if train.labels is None else int(train.labels.max()) + 1
            limit: Limit = components.build("limit", config.limit, num_items=len(train), num_classes=num_classes)
            if config.training.num_particles > 1:
                raise InputError(
                    "a limit's guide is a point, so that all particles are the same: set --training.num_particles 1"
                )
            model, guide = limit(model, guide)
    return LedgerELBO(model, guide, config.training.num_particles)


def encoder_and_likelihood(network: Spec, likelihood: Spec, event_shape: Any, latent_dim: int) -> tuple[Any, Any]:
    """The encoder and the likelihood of views; of several kinds of views, `Encoders` and {modality: likelihood}.

    Args:
        network, likelihood: as in `Config`. Text `(L, A)` has its own; these are for all others.
        event_shape: of a view, or {modality: that of its view}.
        latent_dim: D.
    """
    if isinstance(event_shape, Mapping):
        parts = {n: encoder_and_likelihood(network, likelihood, shape, latent_dim) for n, shape in event_shape.items()}
        return Encoders({n: part[0] for n, part in parts.items()}), {n: part[1] for n, part in parts.items()}
    if len(event_shape) == 2:
        text = MLP(TEXT_HIDDEN)
        return text.encoder(event_shape, latent_dim), Categorical(text.decoder(event_shape, latent_dim))
    built: Network = components.build("network", network)
    encoder = built.encoder(event_shape, latent_dim)
    return encoder, components.build("likelihood", likelihood, decoder=built.decoder(event_shape, latent_dim))


# -- the run folder ---------------------------------------------------------------------------------------------


def free_folder(out: str | None, config: Config) -> Path:
    """Where a new run may go: `out`, or else the next free runs/DATA-MODEL-NUMBER.

    Raises:
        InputError: `out` is already used.
    """
    if out is None:
        data, model = (components.normalize(kind, getattr(config, kind))["class_path"] for kind in ("data", "model"))
        name = "-".join(path.rpartition(":")[2].rpartition(".")[2].lower() for path in (data, model))
        return next(path for i in itertools.count(1) if not (path := Path("runs") / f"{name}-{i}").exists())
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is already used: choose another --out, or go on with that run by adding --resume true"
        )
    return folder


def create_run(folder: Path, config: Config) -> None:
    """Makes the run folder with config.yaml and a copy of every file of the user's that the config names."""
    for name in ("checkpoints", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for kind, path in _user_files(config).items():
        shutil.copyfile(path, folder / f"{kind}.py")
    write_text(folder / "config.yaml", yaml.safe_dump({**config.to_dict(), "out": str(folder)}, sort_keys=False))


def read_run(folder: Path) -> Config:
    """The config of a run folder, with the user's files as they were when the run began.

    Raises:
        InputError: the folder is no run.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(f"{folder} is no run folder (it has no config.yaml): give the --out of an earlier fit")
    try:
        config = Config.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: restore it from a copy, or fit anew") from error
    copies: dict[str, Any] = {}
    for kind in _user_files(config):
        spec = components.normalize(kind, getattr(config, kind))
        class_name = spec["class_path"].rpartition(":")[2]
        copies[kind] = {**spec, "class_path": f"{folder / f'{kind}.py'}:{class_name}"}
    return replace(config, **copies)


def differences(old: Config, new: Config) -> list[str]:
    """Entries, dotted, in which a resumed run's config may not differ from the one that it began with."""
    before, after = old.to_dict(), new.to_dict()
    for plain in (before, after):
        # A longer fit, another machine and another place of the story's file are no other experiment.
        del plain["hardware"], plain["training"]["epochs"]
        for kind in components.KNOWN:
            if plain[kind] is not None:
                plain[kind]["class_path"] = plain[kind]["class_path"].rpartition(":")[2]
    return sorted(_differing(before, after))


def _differing(before: Any, after: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        other = before.get("class_path") != after.get("class_path")  # whose arguments are others too
        for key in {} if other else before | after:
            inner = name if key == "init_args" else f"{name}.{key}".lstrip(".")
            yield from _differing(before.get(key), after.get(key), inner)
        if other:
            yield name
    elif before != after:
        yield name


def lengthen(folder: Path, epochs: int) -> None:
    """Writes into a run's config.yaml how long the fit is now."""
    path = folder / "config.yaml"
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    if plain["training"]["epochs"] != epochs:
        plain["training"]["epochs"] = epochs
        write_text(path, yaml.safe_dump(plain, sort_keys=False))


@contextmanager
def blaming(config: Config) -> Iterator[None]:
    """Inside, what goes wrong in a file of the user's is an InputError that says where."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        files = _user_files(config)
        by_path = {str(path.resolve()): path for path in files.values()}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in by_path]
        place = ""
        if frames:
            file, place = by_path[frames[-1].filename], f", line {frames[-1].lineno} ({frames[-1].line})"
        elif "model" in files and isinstance(error, TypeError) and ".forward() " in str(error):
            file = files["model"]  # which was given what it does not take
        else:
            raise
        more = f"; pyro-simvae check {file} says more" if file == files.get("model") else ""
        raise InputError(f"{file}{place}, {type(error).__name__}: {first_line(error)}{more}") from error


def _named(config: Config) -> list[str]:
    """The kinds of components that the config names."""
    return [kind for kind in components.KNOWN if getattr(config, kind) is not None]


def _user_files(config: Config) -> dict[str, Path]:
    paths = {}
    for kind in _named(config):
        path, _, _ = components.normalize(kind, getattr(config, kind))["class_path"].rpartition(":")
        if path.endswith(".py"):
            paths[kind] = Path(path)
    return paths
