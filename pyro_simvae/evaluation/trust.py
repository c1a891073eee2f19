"""Whether a representation's uncertainty can be trusted: calibration, selective accuracy, and data from elsewhere."""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from pyro_simvae.data import DATASETS, Dataset, Split
from pyro_simvae.data.memory import MemorySplit
from pyro_simvae.errors import InputError, unknown_name
from pyro_simvae.evaluation.bound import importance_bound, importance_weights, why_no_bound
from pyro_simvae.evaluation.classifiers import CHOOSING, INVERSE_PENALTIES, representative
from pyro_simvae.evaluation.features import NUM_NEIGHBOURS, Labels, Prepared, check_labels
from pyro_simvae.evaluation.representations import Plain, evaluating
from pyro_simvae.inference import rng
from pyro_simvae.inference.elbo import LedgerELBO
from pyro_simvae.inspection.generated import decoder_is_trained
from pyro_simvae.limits.own_densities import own_densities

BINS = 15
"""Of the expected calibration error."""

COVERAGE = 0.8
"""Share of the test items that selective accuracy keeps."""

NUM_FOREIGN = 359
"""Items of another data set: as many as scikit-learn's digits have for the test."""

FOREIGN = ("digits", "sprites")
"""The data sets that need no download, and so can be foreign to any other."""

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


# -- predictions ------------------------------------------------------------------------------------------------


def trust(features: Prepared, labels: Labels, draws: Iterable[np.ndarray]) -> dict[str, float]:
    """How well the confidence of a classifier on z agrees with its accuracy on test.

    Multinomial logistic regression is fitted to the locs of train; its penalty is chosen by log-loss on valid. The
    probability of a class, for a test item, is the mean over draws z ~ q(z | x) of its softmax, and the confidence that
    of the likeliest class. Where q(z | x) is wider than the locs lie apart, draws fall where nothing was fitted, and
    accuracy falls to chance: calibration alone does not show it, so read both.

    Args:
        features: the locs.
        labels: each split `(M,)`.
        draws: S draws of the test items' latents, each `(M, D)`; of a point guide, the locs once.

    Returns:
        "ece": expected calibration error, 15 bins, in [0, 1]; "ece_plugin": the same with the loc alone;
        "selective_80": accuracy on the 80 % of the items with the most confidence; "aurc": mean over all coverages
        of the error on the items kept, in [0, 1].

    Raises:
        InputError: labels that do not fit, no draws, or draws of another shape than the test items' locs.

    Source: Naeini, Cooper and Hauskrecht 2015 for the calibration error; Geifman and El-Yaniv 2017 (arXiv:1705.08500)
        for selective prediction.
    """
    check_labels(labels, features, "labels")
    test = features.raw.test
    model = _fitted(features, labels)
    total, count = np.zeros((len(test), len(model.classes_))), 0
    for draw in draws:
        if draw.shape != test.shape:
            raise InputError(f"a draw has shape {draw.shape} for locs {test.shape}: give a latent for each test item")
        total += model.predict_proba(draw)
        count += 1
    if count == 0:
        raise InputError("there are no posterior draws: give one or more")
    probabilities = total / count
    classes = np.searchsorted(model.classes_, labels.test)
    plugin = model.predict_proba(test)
    errors, plugin_errors = (_by_confidence(found, classes) for found in (probabilities, plugin))
    kept = int(np.ceil(COVERAGE * len(errors)))
    return {
        "ece": calibration_error(probabilities, classes),
        "ece_plugin": calibration_error(plugin, classes),
        "selective_80": float(1 - errors[:kept].mean()),
        "selective_80_plugin": float(1 - plugin_errors[:kept].mean()),
        "aurc": float((errors.cumsum() / np.arange(1, len(errors) + 1)).mean()),
    }


def calibration_error(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Σ_b (share of bin b) |accuracy of b - confidence of b| over 15 bins of confidence.

    Args:
        probabilities: `(M, C)`.
        classes: the true ones, `(M,)`, in [0, C).
    """
    found, true = torch.from_numpy(probabilities), torch.from_numpy(classes)
    return float(multiclass_calibration_error(found, true, num_classes=found.shape[1], n_bins=BINS))


def _by_confidence(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which items are classified wrongly, 0 or 1, the most confident item first."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    return (probabilities.argmax(axis=1) != classes)[order].astype(np.float64)


@threadpool_limits.wrap(limits=1, user_api="blas")
def _fitted(features: Prepared, labels: Labels) -> Pipeline:
    locs, part, scaler = features.raw, representative(labels.train), StandardScaler()
    for start in range(0, len(locs.train), CHOOSING):  # in parts, since the scaler casts its items to float64
        scaler.partial_fit(locs.train[start : start + CHOOSING])

    def fitted(penalty: float, items: np.ndarray | slice) -> Pipeline:
        classifier = LogisticRegression(C=penalty, tol=1e-3, max_iter=1000)
        return make_pipeline(scaler, classifier.fit(scaler.transform(locs.train[items]), labels.train[items]))

    models = [fitted(penalty, part) for penalty in INVERSE_PENALTIES]
    losses = [log_loss(labels.valid, model.predict_proba(locs.valid), labels=model.classes_) for model in models]
    return fitted(INVERSE_PENALTIES[int(np.argmin(losses))], slice(None))


# -- data from elsewhere ----------------------------------------------------------------------------------------


def ood_auroc(train_z: np.ndarray, test_z: np.ndarray, other_z: np.ndarray) -> float:
    """How well the distance to the 15th nearest train item tells another data set from test, in [0, 1].

    Args:
        train_z, test_z, other_z: `(M, D)` each, M of its own; the latent of train, test and the other data set.

    Returns:
        The probability that an item of the other set is farther from train than a test item is: 1/2 where they are
        the same.

    Raises:
        InputError: fewer than 15 train items.

    Source: Sun et al. 2022 (arXiv:2204.06507), without their normalization.
    """
    if len(train_z) < NUM_NEIGHBOURS:
        raise InputError(f"the train split holds {len(train_z)} items: detection needs {NUM_NEIGHBOURS} or more")
    index = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS, algorithm="brute").fit(train_z)
    return _auroc(*(index.kneighbors(z)[0][:, -1] for z in (test_z, other_z)))


def ood_bound_auroc(pair: LedgerELBO, test: Split, other: Split, plain: Plain, seed: int) -> float | None:
    """The same with the negative importance-weighted bound of a single view, without augmentation, as the score.

    Args:
        pair: a story with a decoder; on the device of `test`.
        test, other: of the same event shape; at most 359 items of each, evenly spaced.
        plain: makes views of them.
        seed: of the draws.

    Returns:
        None where there is no bound (see `generate`), or where the pair observes more than views.

    Source: Nalisnick et al. 2019 (arXiv:1810.09136), who find that it can be below 1/2.
    """
    own = own_densities(pair)
    if not decoder_is_trained(pair) or own.observes:
        return None
    with torch.no_grad(), rng.isolated(seed), evaluating(own):
        groups = [_singles(split, plain) for split in (test, other)]
        if why_no_bound(own, groups[0][:2]):
            return None
        bounds = [importance_bound(importance_weights(own, x.to(groups[0].device))).numpy() for x in groups]
    return _auroc(*(-bound for bound in bounds))


def foreign_to(dataset: Dataset) -> list[str]:
    """The names of the sets that `dataset` can be told from: none is compared with itself."""
    own = f"{type(dataset).__module__}.{type(dataset).__qualname__}"
    return [name for name in FOREIGN if DATASETS[name] != own]


def foreign(name: str, event_shape: tuple[int, ...]) -> MemorySplit:
    """Test images of another data set, in the event shape of this one: resized, made grey or RGB as needed.

    Args:
        name: digits or sprites.
        event_shape: (C, H, W), C = 1 or 3.

    Returns:
        359 images, uint8, without labels.

    Raises:
        InputError: an unknown name, or an event shape that is not one of images.
    """
    from pyro_simvae.data.digits import Digits
    from pyro_simvae.data.sprites import Sprites

    if name not in FOREIGN:
        raise unknown_name("foreign data set", name, FOREIGN)
    if len(event_shape) != 3 or event_shape[0] not in (1, 3):
        raise InputError(f"{name} are images, and views have shape {event_shape}: leave out-of-distribution data out")
    splits = Digits().load() if name == "digits" else Sprites(num_images=5 * NUM_FOREIGN).load()
    images = splits.test.images(torch.arange(NUM_FOREIGN)).float()
    if images.shape[1] > event_shape[0]:
        images = (images * images.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)
    size = event_shape[1], event_shape[2]
    images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return MemorySplit(images.round().clamp(0, 255).to(torch.uint8).expand(-1, *event_shape).contiguous())


def _singles(split: Split, plain: Plain) -> Tensor:
    index = torch.linspace(0, len(split) - 1, min(NUM_FOREIGN, len(split))).long()
    return plain(split.images(index)).unsqueeze(1)


def _auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    return float(roc_auc_score(truth, np.concatenate([inside, outside])))
