"""The cache folder: files that cost much to make, made once for all epochs, runs and processes."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from pyro_simvae.errors import InputError


def cache_folder(cache: str | None) -> Path:
    """The folder that the option `cache` names; by default pyro-simvae/ in the user's cache ($XDG_CACHE_HOME)."""
    if cache is not None:
        return Path(cache).expanduser()
    # The standard has relative paths ignored.
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".cache") / "pyro-simvae"


def made_once(path: Path, make: Callable[[Path], None]) -> None:
    """Has `make` write `path`, unless it is there. Processes that ask at once wait for the first.

    Args:
        path: A file of the cache; whole wherever it is there.
        make: Is given the path to write to. What an interrupted one left there is there again the next time.

    Raises:
        InputError: If it cannot be written.
    """
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                return
            make(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    except OSError as error:
        raise InputError(
            f"the cache {path.parent} cannot be written ({error.strerror or error}); name a folder that can be, with "
            f"enough space, with --data.cache, or decode the images every epoch with --data.cache no"
        ) from error
