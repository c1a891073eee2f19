"""What an inspection found, in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

GAPS = ("approximation", "amortization")
MEANS = {
    "elbo": ("ELBO", "nats a group"),
    "iwae_gap": ("IWAE gap", "what more draws gain over the ELBO, nats a group"),
    "amortization_gap": ("amortization gap", "what a guide refined for each image gains, nats a group"),
    "loo": ("leave-one-view-out", "how well the views of a group predict each other, nats a group"),
    "posterior_scale": ("posterior scale of z", "standard deviation, root mean square"),
    "content_scale": ("posterior scale of content", "likewise"),
    "effective_share": ("effective sample size", "by draws"),
}


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Prints the tables of `inspection.json`."""
    table = Table(
        "", "mean", "± se", "", title=f"{summary['groups']} groups, {summary['draws']} draws", title_justify="left"
    )
    for name, (words, unit) in MEANS.items():
        if name in summary:
            table.add_row(words, f"{summary[name]['mean']:.3f}", f"{summary[name]['se']:.3f}", unit)
    for words, found in (("k-hat", summary), ("k-hat, refined", summary.get("refined", {}))):
        if "k_hat" in found:
            k = found["k_hat"]
            table.add_row(words, f"{k['median']:.2f}", "", f"median; above 0.7 for {k['above 0.7']:.0%} of the groups")
    console.print(table)
    if "calibration" in summary:
        levels = list(next(iter(summary["calibration"].values()))["coverage"])
        table = Table("calibration", "p", *(f"{float(level):.0%}" for level in levels), title_justify="left")
        for name, found in summary["calibration"].items():
            table.add_row(name, f"{found['p_value']:.2g}", *(f"{found['coverage'][level]:.0%}" for level in levels))
        console.print(table)
    if "predictive_checks" in summary:
        table = Table("predictive check", "p", "")
        for name, p in summary["predictive_checks"].items():
            verdict = "too little" if p < 0.025 else "too much" if p > 0.975 else ""
            table.add_row(name, f"{p:.2f}", verdict)
        console.print(table)
    for found in summary.get("nuts", []):
        console.print(
            f"NUTS, image {found['image']}: log p(x) {found['log_evidence']:.2f} (relative error of p(x) "
            f"{found['relative_error']:.2f})"
            + "".join(f", {name} gap {found[f'{name}_gap']:.2f}" for name in GAPS if f"{name}_gap" in found),
            highlight=False,
        )
        if found["trouble"]:
            console.print(f"  not to be trusted: {found['trouble']}", style="red", highlight=False)
    for line in summary["left_out"]:
        console.print(f"left out {line}", highlight=False)
