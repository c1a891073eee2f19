"""What a check found: the sites of a story, and what is wrong or worth knowing, each with its mend."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyro_simvae.distributions import Decoded
from pyro_simvae.editing.runs import Message, Run, is_deterministic, is_enumerated, plates_of, unwrapped


class Site(NamedTuple):
    """A sample site of a story, for the groups and views that were checked.

    Attributes:
        name: of the site.
        kind: "latent", "observed", "enumerated" (summed out) or "deterministic".
        distribution: the class that the site draws from.
        batch_shape, event_shape: of the distribution, plates included.
        plates: names, from the outermost inwards.
        in_guide: whether the guide has the site; None where there was no guide to look at.
    """

    name: str
    kind: str
    distribution: str
    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    plates: tuple[str, ...]
    in_guide: bool | None


class Finding(NamedTuple):
    """A mistake and its mend.

    Attributes:
        kind: a short name that stays the same from release to release.
        site: the site or parameter that it is about; "" for the story as a whole.
        message: the mistake.
        mend: what to do.
        is_fault: whether it must be mended; otherwise it is a remark, something to know.
    """

    kind: str
    site: str
    message: str
    mend: str
    is_fault: bool = True

    def __str__(self) -> str:
        about = f"{self.site}: " if self.site else ""
        return f"{'fault' if self.is_fault else 'remark'} {self.kind}: {about}{self.message}: {self.mend}"


class Report(NamedTuple):
    """What a check of a story found."""

    sites: list[Site]
    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """The findings that must be mended."""
        return [finding for finding in self.findings if finding.is_fault]


def rows(sites: Mapping[str, Message], guide: Run | None = None) -> list[Site]:
    """The sites of a run as rows, with what the guide's run has of them."""
    return [_row(name, site, guide) for name, site in sites.items()]


def _row(name: str, site: Message, guide: Run | None) -> Site:
    fn = site["fn"]
    if is_deterministic(site):
        kind = "deterministic"
    elif is_enumerated(site):
        kind = "enumerated"
    else:
        kind = "observed" if site["is_observed"] else "latent"
    try:
        drawn_from = unwrapped(fn.distribution if isinstance(fn, Decoded) else fn)
    except Exception:  # a decoder that does not fit the latent
        drawn_from = fn
    return Site(
        name,
        kind,
        type(drawn_from).__name__,
        tuple(fn.batch_shape),
        tuple(fn.event_shape),
        tuple(plates_of(site)),
        None if guide is None else name in guide.sites,
    )


def unique(findings: Iterable[Finding]) -> list[Finding]:
    """The first finding of each kind at each site, faults before remarks: several runs meet the same mistake."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        first.setdefault((finding.kind, finding.site), finding)
    return sorted(first.values(), key=lambda finding: not finding.is_fault)


def print_report(report: Report, console: Console) -> None:
    """The table of sites, then a line for each finding."""
    if report.sites:
        table = Table(title="sites", title_justify="left", title_style="bold")
        for heading in ("site", "kind", "distribution", "batch shape", "event shape", "plates", "guide"):
            table.add_column(heading)
        for site in report.sites:
            words = (*site[:3], *map(str, site[3:5]), ", ".join(site.plates), _word(site))
            table.add_row(*map(Text, words))  # Text, since square brackets in a name are not markup
        console.print(table)
    for finding in report.findings:
        console.print(Text(str(finding), style="red" if finding.is_fault else "yellow"), soft_wrap=True)
    if not report.findings:
        console.print("nothing found")


def _word(site: Site) -> str:
    if site.in_guide:
        return "yes"
    return "no" if site.in_guide is False and site.kind == "latent" else ""
