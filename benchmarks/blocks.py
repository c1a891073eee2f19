"""What SimVAE and its InfoNCE limit keep of content and style, over random mixings of the data set blocks.

    python benchmarks/blocks.py [CONFIG ...] [--mixings 0 1 2] [--statistical] [--causal] [--out blocks.json]

Fits each config once for every mixing and prints a Markdown table: R² of linear and kernel ridge regression from the
latent loc to each block, on test (`--valid`: on valid, for choosing settings); for a style scale learned for each
dimension, also from the dimensions with the smallest and those with the largest scales alone, as many as content and
style have dimensions.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pyro_simvae import commands, experiment
from pyro_simvae.data.blocks import Blocks
from pyro_simvae.data.splits import Split
from pyro_simvae.evaluation.encoders import LatentLoc
from pyro_simvae.evaluation.features import Features, Prepared, Targets
from pyro_simvae.evaluation.kernel import kernel_r2
from pyro_simvae.evaluation.regressors import linear_r2
from pyro_simvae.evaluation.representations import represent
from pyro_simvae.inference.files import load_checkpoint
from pyro_simvae.inference.settings import Training
from pyro_simvae.inference.svi import load_weights

CONFIGS = tuple(Path(f"configs/blocks_{name}.yaml") for name in ("infonce", "knob", "simvae"))


def fit(config: Path, data: Mapping[str, Any], folder: Path) -> tuple[Path, float]:
    """The run of one config on blocks with these options, and its seconds."""
    options = yaml.safe_load(config.read_text(encoding="utf-8"))
    own = options["data"].get("init_args", {}) if isinstance(options["data"], Mapping) else {}
    options["data"] = {"class_path": "blocks", "init_args": {**own, **data}}
    options["training"] = Training(**options["training"])
    start = time.perf_counter()
    run = commands.fit(**options, out=str(folder))
    return run, time.perf_counter() - start


def score(run: Path, on_valid: bool = False) -> dict[str, float]:
    """R² by representation, block and probe; the learned style scales, sorted.

    Args:
        run: the run folder.
        on_valid: score valid, choosing the probes on test: for settings that are still to be chosen.
    """
    fitted = experiment.build(experiment.read_run(run))
    load_weights(fitted.pair, load_checkpoint(run / "checkpoints" / "best.ckpt")["weights"], run)
    splits = fitted.splits if not on_valid else type(fitted.splits)(*(fitted.splits[i] for i in (0, 2, 1)))
    assert isinstance(fitted.dataset, Blocks)
    content = fitted.dataset.content_factors
    style = tuple(name for name in splits.train.factors if name not in content)
    targets = {name: Targets(*(table(split, names) for split in splits)) for name, names in block_names(content, style)}
    z = [represent(LatentLoc(fitted.guide), split, fitted.views.plain) for split in splits]
    parts = {"z": np.arange(z[0].shape[1])}
    scores: dict[str, float] = {}
    scales = fitted.story.style_scale
    if isinstance(scales, torch.Tensor) and scales.dim() == 1:
        order = scales.detach().argsort().numpy()
        parts |= {"small": order[: len(content)], "large": order[len(content) :]}
        scores |= {f"scale {d + 1}": float(scales[k]) for d, k in enumerate(order)}
    for part, dimensions in parts.items():
        prepared = Prepared(Features(*(split[:, dimensions] for split in z)))
        for name, values in targets.items():
            scores[f"{part}: {name}, linear"] = linear_r2(prepared, values)
            scores[f"{part}: {name}, kernel"] = kernel_r2(prepared, values)
    return scores


def block_names(content: Sequence[str], style: Sequence[str]) -> tuple[tuple[str, Sequence[str]], ...]:
    return ("content", content), ("style", style)


def table(split: Split, names: Sequence[str]) -> np.ndarray:
    """The factors of these names, `(M, T)`."""
    return np.stack([split.factors[name].numpy() for name in names], axis=1)


def markdown(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A column a config, a row a score: mean ± standard deviation over mixings."""
    rows = list(dict.fromkeys(name for runs in results.values() for run in runs for name in run))
    lines = [["", *results], ["---", *("---:" for _ in results)]]
    for row in rows:
        found = [[run[row] for run in runs if row in run] for runs in results.values()]
        lines.append([row, *(cell(values) for values in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; no spread of a single value, blank without any."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path, metavar="CONFIG", default=CONFIGS, help="all three by default")
    parser.add_argument("--mixings", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--statistical", action="store_true", help="dependence within the blocks")
    parser.add_argument("--causal", action="store_true", help="style that depends on content")
    parser.add_argument("--valid", action="store_true", help="score valid, to choose settings")
    parser.add_argument("--out", type=Path, help="also write the scores as JSON")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for config in arguments.configs:
            for seed in arguments.mixings:
                data = {"statistical": arguments.statistical, "causal": arguments.causal, "mixing_seed": seed}
                run, seconds = fit(config, data, Path(folder) / f"{config.stem}-{seed}")
                scores = score(run, arguments.valid) | {"seconds": seconds}
                print(config.stem, seed, json.dumps(scores), flush=True)
                results.setdefault(config.stem, []).append(scores)
    print(f"\n{markdown(results)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
