"""The commands as functions: fit a story, evaluate a run, sample from it, list the limits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from rich.console import Console

from pyro_simvae import experiment as exp
from pyro_simvae.comparison.command import compare as compare
from pyro_simvae.components import Spec
from pyro_simvae.data import Splits
from pyro_simvae.data.seen import seen
from pyro_simvae.editing.check import check as check
from pyro_simvae.editing.graph import graph as graph
from pyro_simvae.editing.new import new as new
from pyro_simvae.errors import InputError
from pyro_simvae.evaluation.encode import encode as encode
from pyro_simvae.fitted import open_run, weights_file
from pyro_simvae.inference import rng
from pyro_simvae.inference.files import load_checkpoint, write_text
from pyro_simvae.inference.gather import alone
from pyro_simvae.inference.hardware import fabric_of
from pyro_simvae.inference.processes import Processes, launched
from pyro_simvae.inference.progress import Progress
from pyro_simvae.inference.settings import Hardware, Training, settings
from pyro_simvae.inference.svi import SVI, load_weights
from pyro_simvae.inspection.command import explore as explore
from pyro_simvae.inspection.command import inspect as inspect
from pyro_simvae.limits import Claim


def fit(
    data: Spec = "digits",
    views: Spec | None = None,
    network: Spec = "conv",
    likelihood: Spec = "continuous_bernoulli",
    model: Spec = "simvae",
    guide: Spec = "mean_field",
    limit: Spec | None = None,
    latent_dim: int = 10,
    training: Training = Training(),  # noqa: B008 (frozen)
    hardware: Hardware = Hardware(),  # noqa: B008 (frozen)
    seed: int = 0,
    out: str | None = None,
    resume: bool = False,
) -> Path:
    """Fit a generative story and its guide to groups of views by SVI.

    Each part is named, or is a file of your own, path/to/file.py:Class; with options of its own it is {"class_path":
    name, "init_args": {...}}.

    Args:
        data: digits, mnist, fashion_mnist, cifar10, celeba, sprites, blocks, folder:PATH, shards:PATTERN or
            arrays:PATH; for the multimodal story paired_digits, paired_mnist or paired_folder:PATH.
        views: augmentation that makes the views, by default the one that suits the data: none, crop, digits, mnist,
            fashion_mnist, cifar10, celeba, sprites, mnist_paper or cifar10_paper.
        network: mlp, conv, resnet18 or linear.
        likelihood: bernoulli, continuous_bernoulli, normal or categorical.
        model: simvae, vae, linear, private_style, heavy_tails, hierarchical, relevance, mixture, instance, spherical or
            multimodal.
        guide: mean_field, full_covariance, flow, semi_amortized, consistent, exact or spherical.
        limit: a discriminative limit of the story in place of its ELBO; `pyro-simvae limits` lists them.
        latent_dim: D.
        training: how the ELBO is optimized; in Python also a dictionary.
        hardware: on what; likewise.
        seed: of initial weights, order, views and draws.
        out: the run folder, new or empty; by default the next free runs/DATA-MODEL-NUMBER.
        resume: go on with the run in `out`, from its last checkpoint.

    Returns:
        The run folder, with config.yaml, metrics.csv, checkpoints, weights.safetensors and figures.

    Raises:
        InputError: whatever cannot be used, before anything is written; a non-finite loss.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written; `resume` goes on from there.
    """
    training, hardware = settings(Training, training), settings(Hardware, hardware)
    config = exp.Config(data, views, network, likelihood, model, guide, latent_dim, training, hardware, seed, limit)
    if resume:
        folder, config = _resumed(out, config)
    else:
        folder = exp.free_folder(out, config)
    fabric = fabric_of(hardware, folder)
    experiment = exp.build(config)
    with launched(fabric) as processes:
        return _fit(experiment, config, processes.first(folder), fabric, resume)


def _fit(experiment: exp.Experiment, config: exp.Config, folder: Path, fabric: Fabric, resume: bool) -> Path:
    """One process's part of `fit`; the first one writes and prints."""
    processes = Processes(fabric)
    first = processes.rank == 0
    console = Console(soft_wrap=True, quiet=not first, force_terminal=None if first else False)
    with processes.alike():
        with rng.isolated(config.seed), alone():
            svi = _loop(experiment, config, folder, fabric)
            with exp.blaming(config):
                svi.check()
        if first and not resume:
            exp.create_run(folder, config)
    with rng.isolated(processes.seed(config.seed)):
        if resume:
            svi.restore("last")
            if first:
                exp.lengthen(folder, max(config.training.epochs, svi.epoch))
            place = f"at epoch {svi.epoch + 1}, step {svi.step + 1}"
            if svi.epoch >= config.training.epochs:
                place = f"which has its {svi.epoch} epochs already (give more by --training.epochs)"
            console.print(f"going on with {folder} {place}", highlight=False)
        else:
            svi.save("best", "last")  # so that a run can be resumed from its first step on
            console.print(_headline(experiment, config, folder), highlight=False)
        if config.training.patience is not None and not svi.stationary:
            console.print("patience is left aside: the objective moves with a teacher or codes", highlight=False)
        with Progress(console, config.training.epochs) as progress:
            svi.run(progress)
    if first:
        with alone():
            _finish(experiment, folder, svi.rows, console)
    console.print(f"fitted: {folder}  (pyro-simvae evaluate {folder})", highlight=False)
    return folder


def evaluate(
    run: str,
    weights: Literal["best", "last"] = "best",
    metrics: Sequence[str] | None = None,
    representations: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Score what a run's representation keeps of content and style, how healthy it is, and what its story generates.

    Whatever is chosen is chosen on the validation split; the test split is scored once. Raw input and the untrained
    encoder are scored alike, to compare with.

    Args:
        run: the run folder.
        weights: of the best epoch on the validation objective, or of the last.
        metrics: families of metrics, of probes, style, clusters, few_labels, disentanglement, health, trust and
            generation; all by default.
        representations: of z, content, style, features, raw, untrained and story; all that the run has by default,
            but features, which the encoder's last layer reads, only where the guide has a projection head.

    Returns:
        What it writes to evaluation.json, beside what that holds of the same weights:
        {"scores": {representation: {target: {metric: value}}}, "content_targets", "style_targets": names, "left_out":
        lines, "elbo": test ELBO and its terms in nats a group, ...}; the target is "label", a factor, "factors" or
        "none". Of paired data, {"modalities": {modality: scores}, "retrieval": {"image to text": {"recall_1",
        "recall_10", "class"}, ...}, "elbo": ...}.

    Raises:
        InputError: no such run, or one without weights yet; an unknown metric or representation.
    """
    from pyro_simvae.evaluation.earlier import digest, with_earlier
    from pyro_simvae.evaluation.modalities import score_modalities
    from pyro_simvae.evaluation.score import FAMILIES, REPRESENTATIONS, Subject, choose, score
    from pyro_simvae.evaluation.tables import print_evaluation

    choose("metric", metrics, FAMILIES)
    choose("representation", representations, REPRESENTATIONS)
    folder, console = Path(run), Console(soft_wrap=True)
    _, config, experiment = open_run(folder, weights)
    untrained = exp.build_pair(config, experiment.splits.train)
    fabric = fabric_of(config.hardware)
    svi = _loop(experiment, config, folder, fabric)
    splits = Splits(*(split.to(fabric.device) for split in experiment.splits))
    evaluation: dict[str, Any] = {"elbo": svi.validate(splits.test)}
    subject = Subject(
        experiment.pair,
        untrained.guide.to(fabric.device),
        splits,
        svi.views,
        experiment.dataset,
        config.training.num_views,
        config.seed,
    )
    if isinstance(splits.train.event_shape, Mapping):
        evaluation = score_modalities(subject, console, metrics, representations) | evaluation
    else:
        evaluation = score(subject, console, metrics, representations)._asdict() | evaluation
    style = getattr(experiment.story, "style_scale", None)
    if isinstance(style, torch.Tensor):
        evaluation["style_scale"] = style.tolist()
    evaluation |= {"weights": weights, "digest": digest(weights_file(folder, weights))}
    print_evaluation(evaluation, console)
    path = folder / "evaluation.json"
    evaluation = with_earlier(path, evaluation)
    write_text(path, json.dumps(evaluation, indent=2) + "\n")
    console.print(f"evaluated: {path}", highlight=False)
    return evaluation


def sample(run: str, num_groups: int = 8, num_views: int = 8, seed: int = 0, out: str | None = None) -> Path:
    """Draw groups of views from a fitted story's prior.

    Args:
        run: the run folder.
        num_groups: N, a row each in the picture.
        num_views: J, draws from one content.
        seed: of the draws.
        out: where the draws go, an .npz file that does not exist yet; by default RUN/samples/seed-SEED-NxJ.npz.

    Returns:
        The file, with "x" `(N, J, *event)` (the view's mean) and the story's latent sites; the picture lies beside it.

    Raises:
        InputError: flat content, which is improper; no such run; `out` exists.
    """
    from pyro_simvae.figures.gallery import prior_figure
    from pyro_simvae.inspection.generated import decoder_is_trained, draw_prior

    folder, console = Path(run), Console(soft_wrap=True)
    path = Path(out) if out else folder / "samples" / f"seed-{seed}-{num_groups}x{num_views}.npz"
    if path.suffix != ".npz":
        raise InputError(f"{path} is no .npz file: give --out NAME.npz")
    if out and path.exists():
        raise InputError(f"{path} exists: choose another --out")
    experiment = open_run(folder).experiment
    if not decoder_is_trained(experiment.pair):
        raise InputError(
            f"{folder} was fitted under a limit, which leaves the decoder untrained, so there are no views to draw: "
            "fit with --limit.t below 1, or without a limit"
        )
    with rng.isolated(seed):
        draws = draw_prior(experiment.story, num_groups, num_views)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **draws)  # type: ignore[arg-type]  # numpy types its own flag only
    prior_figure(draws, path.with_suffix(".png"))
    console.print(f"sampled: {path}", highlight=False)
    return path


def limits(names: Sequence[str] = (), figure: str | None = None) -> dict[str, Claim]:
    """List the discriminative limits of the story and what each claims, or draw the densities that they induce.

    Args:
        names: which limits, such as simclr; all by default.
        figure: draw the log-density of one latent under each loss, beside the program's own, to this .png file, which
            does not exist yet; limits.png where no path is given.

    Returns:
        The claims by name.

    Raises:
        InputError: an unknown limit; `figure` exists or is no .png file.
    """
    from rich.progress import track

    from pyro_simvae.limits.methods import select, terminal_table

    console, chosen = Console(soft_wrap=True), select(names)
    if figure is None:
        # Where the output is a file or a pipe it has no width of its own.
        console.print(terminal_table(chosen), width=None if console.is_terminal else 120)
        return {name: limit.claim for name, limit in chosen.items()}

    from pyro_simvae.figures.canvas import save
    from pyro_simvae.figures.induced import batch, induced, limit_panel, story_panel

    path = Path(figure)
    if path.suffix != ".png":
        raise InputError(f"{path} is no .png file: give --figure NAME.png, after the names of limits")
    if path.exists():
        raise InputError(f"{path} exists: choose another --figure")
    data = batch()
    panels = [story_panel(data)]
    progress = track(chosen, "densities", console=console, transient=True, disable=not console.is_terminal)
    panels += [limit_panel(name, data) for name in progress]
    path.parent.mkdir(parents=True, exist_ok=True)
    save(induced(panels, data), path)
    console.print(f"drawn: {path}", highlight=False)
    return {name: limit.claim for name, limit in chosen.items()}


# -- parts ------------------------------------------------------------------------------------------------------


def _resumed(out: str | None, config: exp.Config) -> tuple[Path, exp.Config]:
    """The run folder to go on with and its config, but for the length of the fit and the hardware, which may change."""
    if out is None:
        raise InputError("resume needs the run folder: give --out RUN, or --config RUN/config.yaml")
    folder = Path(out)
    old = exp.read_run(folder)
    if changed := exp.differences(old, config):
        raise InputError(
            f"{folder} was begun with another {', '.join(changed)}: resume it with --config {folder}/config.yaml"
        )
    training = replace(old.training, epochs=config.training.epochs)
    return folder, replace(old, training=training, hardware=config.hardware)


def _loop(experiment: exp.Experiment, config: exp.Config, folder: Path, fabric: Fabric | None = None) -> SVI:
    splits, views = experiment.splits, experiment.views
    fabric = fabric or fabric_of(config.hardware, folder)
    return SVI(
        experiment.pair,
        splits.train,
        splits.valid,
        views,
        config.training,
        fabric,
        folder,
        config.seed,
        config.hardware.engine,
    )


def _headline(experiment: exp.Experiment, config: exp.Config, folder: Path) -> str:
    train, valid, test = (len(split) for split in experiment.splits)
    parameters = sum(p.numel() for p in experiment.pair.parameters())
    weights = config.training.likelihood_weight, config.training.kl_weight
    weighted = "" if weights == (1.0, 1.0) else f", objective {weights[0]:g} log p(x|z) - {weights[1]:g} KL"
    return (
        f"{folder}: {train} training, {valid} validation, {test} test groups of {config.training.num_views} views "
        f"{experiment.splits.train.event_shape}; {parameters:,} parameters{weighted}"
    )


def _finish(experiment: exp.Experiment, folder: Path, rows: list[dict[str, float]], console: Console) -> None:
    """The best epoch's weights on their own, and the pictures."""
    from safetensors.torch import save_file

    from pyro_simvae.figures.gallery import fit_figures
    from pyro_simvae.inference.files import atomic

    path = folder / "checkpoints" / "best.ckpt"
    state = load_checkpoint(path)
    with atomic(folder / "weights.safetensors") as temporary:
        weights = {name: value.contiguous() for name, value in state["weights"].items()}
        save_file(weights, temporary, metadata=seen(experiment.splits.train, experiment.splits.valid))
    load_weights(experiment.pair, state["weights"], path)
    for line in fit_figures(
        experiment.pair,
        experiment.splits,
        experiment.views,
        experiment.dataset.classes,
        rows,
        folder / "figures",
    ):
        console.print(f"left out {line}", highlight=False)
