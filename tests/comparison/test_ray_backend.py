"""The Ray backend, on a local Ray; and one line where Ray is missing."""

import builtins
import os

import pytest

from pyro_simvae.comparison import ray_backend
from pyro_simvae.errors import InputError


def test_results_errors_and_folder_come_back_from_ray(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.chdir(tmp_path)
    items = ["2 + 2", "1 / 0", "__import__('os').getcwd()", "__import__('os').getpid()", "__import__('os')._exit(1)"]
    found = dict(ray_backend.run(eval, items, jobs=2))
    assert set(found) == set(items)
    assert found[items[0]] == 4
    assert isinstance(found[items[1]], ZeroDivisionError)
    assert found[items[2]] == str(tmp_path)
    assert found[items[3]] != os.getpid()
    assert isinstance(found[items[4]], ray.exceptions.RayError)
    assert not ray.is_initialized()


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **options):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'pyro-simvae\[ray\]'"):
        next(ray_backend.run(abs, [1]))
