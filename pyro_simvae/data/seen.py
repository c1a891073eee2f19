"""What a run keeps of the data that it was fitted to, so that it is not taken for other data later."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_simvae.data.splits import Split
from pyro_simvae.errors import InputError


def seen(train: Split, valid: Split) -> dict[str, str]:
    """The shape of a view, and how many items there are, as text."""
    shape: Any = train.event_shape
    shape = {name: list(each) for name, each in shape.items()} if isinstance(shape, Mapping) else list(shape)
    return {"event_shape": json.dumps(shape), "items": json.dumps([len(train), len(valid)])}


def check_seen(kept: Mapping[str, str], train: Split, valid: Split, run: Path) -> None:
    """Raises InputError where data is not what it was: what is now its test split may have been fitted to.

    Args:
        kept: as `seen` gave it; empty for runs that kept nothing.
        train, valid: as they are now.
        run: whose they are.
    """
    for name, now in seen(train, valid).items():
        if (then := kept.get(name, now)) != now:
            raise InputError(
                f"the data has changed since {run} was fitted, {name.replace('_', ' ')} {then} then and {now} now: "
                "restore it, or fit anew"
            )
