"""What SimVAE and its InfoNCE limit keep of content and style, over random mixings of the data set blocks.

    python benchmarks/blocks.py [CONFIG ...] [--mixings 0 1 2] [--statistical] [--causal] [--runs runs/blocks]
    python benchmarks/blocks.py configs/blocks_simvae_continued.yaml --start configs/blocks_knob.yaml

Fits each config once for every mixing and prints a Markdown table: R² of linear and kernel ridge regression from the
latent loc to each block, on test (`--valid`: on valid, for choosing settings); for a style scale learned for each
dimension, also from the dimensions with the smallest and those with the largest scales alone, as many as content and
style have dimensions. With `--start` each fit begins from the weights of another config's fit on the same mixing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from pyro_simvae.inference.files import load_checkpoint, save_checkpoint
from pyro_simvae.inference.settings import Training
from pyro_simvae.inference.svi import load_weights

CONFIGS = tuple(Path(f"configs/blocks_{name}.yaml") for name in ("infonce", "knob", "simvae"))


def fit(config: Path, data: Mapping[str, Any], run: Path, start: Path | None = None) -> float:
    """Fits one config on blocks with these options, into the folder `run`. Returns its seconds.

    Args:
        config: as `pyro-simvae fit --config` takes it.
        data: options of `Blocks`.
        run: the run folder; what is fitted there already is left as it is, and takes no time.
        start: the run to begin from; initial weights without it.
    """
    if (run / "weights.safetensors").exists():
        return 0.0
    options = yaml.safe_load(config.read_text(encoding="utf-8"))
    own = options["data"].get("init_args", {}) if isinstance(options["data"], Mapping) else {}
    options["data"] = {"class_path": "blocks", "init_args": {**own, **data}}
    training = Training(**options.pop("training"))
    began = time.perf_counter()
    if start is None:
        commands.fit(**options, training=training, out=str(run))
    else:
        commands.fit(**options, training=replace(training, epochs=0), out=str(run))
        begin_from(start, run)
        commands.fit(**options, training=training, out=str(run), resume=True)
    return time.perf_counter() - began


def begin_from(start: Path, run: Path) -> None:
    """Puts the weights of story and guide of the run `start` into the checkpoints of `run`, which is yet to be fitted.

    Under a limit the same story and guide are one level deeper.
    """
    weights = load_checkpoint(start / "checkpoints" / "best.ckpt")["weights"]
    inner = {name.replace("model.story.", "model.").replace("guide.guide.", "guide."): w for name, w in weights.items()}
    for name in ("best", "last"):
        path = run / "checkpoints" / f"{name}.ckpt"
        state = load_checkpoint(path)
        state["weights"] = {key: inner[key] for key in state["weights"]}
        save_checkpoint([path], state)


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
        scales = scales.detach()
        order = scales.argsort().numpy()
        parts |= {"small": order[: len(content)], "large": order[len(content) :]}
        scores |= {f"scale {d + 1}": value for d, value in enumerate(scales.sort().values.tolist())}
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
    parser.add_argument("--start", type=Path, metavar="CONFIG", help="begin from the weights of this config's fit")
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder; those that it holds are only scored")
    arguments = parser.parse_args()
    kind = "".join(f"-{name}" for name in ("statistical", "causal") if getattr(arguments, name))
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        for config in arguments.configs:
            for seed in arguments.mixings:
                data = {"statistical": arguments.statistical, "causal": arguments.causal, "mixing_seed": seed}
                start, seconds = None, 0.0
                if arguments.start:
                    start = folder / f"{arguments.start.stem}{kind}-{seed}"
                    seconds = fit(arguments.start, data, start)
                run = folder / f"{config.stem}{kind}-{seed}"
                seconds += fit(config, data, run, start)
                scores = score(run, arguments.valid) | ({"seconds": seconds} if seconds else {})
                print(config.stem, seed, json.dumps(scores), flush=True)
                results.setdefault(config.stem, []).append(scores)
    print(f"\n{markdown(results)}")


if __name__ == "__main__":
    main()
