"""What the wheel holds, and what importing costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "pyro_simvae").rglob("__init__.py")}
    found = {".".join(folder.parts) for folder in folders} | {"pyro_simvae.models", "pyro_simvae.guides"}
    assert set(listed) == found


@pytest.mark.parametrize("library", ["torch", "pyro", "lightning", "matplotlib", "sklearn"])
def test_importing_the_package_imports_no_heavy_library(library):
    check = f"import sys, pyro_simvae; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_unknown_attribute():
    import pyro_simvae

    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = pyro_simvae.fitt


def test_listing_the_commands_imports_nothing_heavy():
    code = "import sys; from pyro_simvae.cli import main; main([]); print({'torch', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("set()\n")
    assert "evaluate" in out


def test_every_command_is_listed_with_the_first_line_of_its_docstring():
    from pyro_simvae import commands
    from pyro_simvae.cli import COMMANDS

    for name, line in COMMANDS.items():
        assert getattr(commands, name).__doc__.split("\n")[0] == line
