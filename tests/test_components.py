"""From names to classes: what a file holds."""

import os

import pytest
import torch
from pyro.nn import PyroModule

from pyro_simvae.components import complete, load_class, normalize
from pyro_simvae.errors import InputError
from pyro_simvae.inference.settings import Training, settings
from pyro_simvae.models import SimVAE

DATA = """from pyro_simvae.data import Dataset


class Stripes(Dataset):
    def __init__(self, pattern: str = "horizontal"):
        self.pattern = pattern

    def load(self):
        raise NotImplementedError
"""
BASE = "from pyro.nn import PyroModule\n\n\n"
ONE = BASE + "class Only(PyroModule):\n    pass\n\n\nclass Helper:\n    pass\n"
TWO = BASE + "class First(PyroModule):\n    pass\n\n\nclass Second(PyroModule):\n    pass\n"


def test_a_file_with_one_story_needs_no_class(tmp_path):
    path = tmp_path / "story.py"
    path.write_text(ONE)
    spec = normalize("model", str(path))
    assert spec == {"class_path": f"{path}:Only", "init_args": {}}
    assert load_class("model", spec["class_path"]).__name__ == "Only"
    assert normalize("model", {"class_path": str(path), "init_args": {"a": 1}})["class_path"] == f"{path}:Only"


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("folder:a/b", "folder", {"path": "a/b"}),
        ("arrays:a.npz", "arrays", {"path": "a.npz"}),
        ("shards:a/{0..9}.tar", "shards", {"pattern": "a/{0..9}.tar"}),
        ("shards", "shards", {}),
    ],
)
def test_data_with_its_place(spec, name, options):
    assert normalize("data", spec) == {"class_path": name, "init_args": options}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO, "should define one model, and defines First, Second: say which, as in"),
        ("x = 1\n", "defines no model: derive a class from pyro.nn"),
    ],
)
def test_a_file_with_more_or_none_does_not(tmp_path, text, said):
    path = tmp_path / "story.py"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        normalize("model", str(path))


def test_a_class_of_another_kind():
    with pytest.raises(InputError, match="cannot be the network: derive SimVAE from"):
        load_class("network", "pyro_simvae.models.simvae.SimVAE")


def test_an_edited_file_is_read_anew(tmp_path):
    path = tmp_path / "story.py"
    path.write_text(ONE)
    first = load_class("model", f"{path}:Only")
    assert load_class("model", f"{path}:Only") is first
    path.write_text(ONE + "\n\nx = 1\n")
    assert load_class("model", f"{path}:Only") is not first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import helpers\n", "story.py imports helpers from beside it, and should stand alone"),
        ("import helpers.more\n", "imports helpers from beside it"),
        ("import nowhere\n", "cannot be imported, ModuleNotFoundError"),
        ("x = \n", "cannot be imported, SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_run(tmp_path, text, said):
    (tmp_path / "helpers.py").write_text("")
    path = tmp_path / "story.py"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_class("model", f"{path}:Only")


def test_a_class_stands_for_its_name():
    assert normalize("model", SimVAE)["class_path"] == "pyro_simvae.models.simvae.SimVAE"

    class Here(PyroModule):
        pass

    with pytest.raises(InputError, match=r"Here is defined in a notebook or script, .* write it to a file"):
        normalize("model", Here)
    with pytest.raises(InputError, match="the data is a Tensor: give a name"):
        normalize("data", torch.zeros(3))


def test_settings_from_a_dictionary():
    assert settings(Training, {"epochs": 3}) == Training(epochs=3)
    assert settings(Training, Training()) == Training()
    with pytest.raises(InputError, match="unknown setting of Training 'epoch': did you mean epochs"):
        settings(Training, {"epoch": 3})


def test_what_a_data_set_of_ones_own_calls_a_pattern_is_left_alone(tmp_path):
    path = tmp_path / "stripes.py"
    path.write_text(DATA)
    spec = complete("data", {"class_path": f"{path}:Stripes", "init_args": {"pattern": "vertical"}})
    assert spec["init_args"] == {"pattern": "vertical"}
    home = complete("data", "folder:~/images")["init_args"]["path"]
    assert home == os.path.expanduser("~/images")
    assert complete("data", "mnist")["init_args"]["root"] == "data"


def test_a_library_that_is_not_installed_is_no_neighbour(tmp_path):
    path = tmp_path / "nowhere_views.py"
    path.write_text("import nowhere\n")
    with pytest.raises(InputError, match="cannot be imported, ModuleNotFoundError"):
        load_class("views", f"{path}:Views")


def test_where_data_lies_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    spec = complete("data", "arrays:a.npz")
    assert spec["init_args"]["path"] == str(tmp_path / "a.npz")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert complete("data", spec) == spec
    assert complete("data", {"class_path": "shards", "init_args": {"pattern": "a/{0..9}.tar"}})["init_args"][
        "pattern"
    ] == str(tmp_path / "elsewhere" / "a" / "{0..9}.tar")
