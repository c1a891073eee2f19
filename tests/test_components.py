"""From names to classes: what a file holds."""

import pytest

from pyro_simvae.components import load_class, normalize
from pyro_simvae.errors import InputError

ONE = "from torch import nn\n\n\nclass Only(nn.Linear):\n    pass\n\n\nclass Helper:\n    pass\n"
TWO = "from torch import nn\n\n\nclass First(nn.Linear):\n    pass\n\n\nclass Second(nn.Linear):\n    pass\n"


def test_a_file_with_one_module_needs_no_class(tmp_path):
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


@pytest.mark.parametrize(("text", "names"), [(TWO, "First, Second"), ("x = 1\n", "none")])
def test_a_file_with_more_or_none_does(tmp_path, text, names):
    path = tmp_path / "story.py"
    path.write_text(text)
    with pytest.raises(InputError, match=f"should define one module, and defines {names}: say which, as in"):
        normalize("model", str(path))
