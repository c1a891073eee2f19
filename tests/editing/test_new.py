"""The copies run, say what to keep, and overwrite nothing."""

import ast
import inspect
import sys

import pytest
import torch
from pyro import poutine

from pyro_simvae import components
from pyro_simvae.editing.check import check
from pyro_simvae.editing.new import NOTES, OPTIONS, commented, new
from pyro_simvae.errors import InputError


@pytest.mark.parametrize("name", components.KNOWN["model"])
def test_a_copy_is_its_story_and_passes_the_check(tmp_path, name, capsys):
    path = new(str(tmp_path / "my_story.py"), name)
    cls = components.load_class("model", name)
    source = inspect.getsource(sys.modules[cls.__module__])
    assert ast.dump(ast.parse(path.read_text())) == ast.dump(ast.parse(source))
    words = iter(OPTIONS.get(name, "").split())
    options = {option.removeprefix("--"): value for option, value in zip(words, words, strict=True)}
    mlp = {"class_path": "mlp", "init_args": {"hidden": [8]}}
    assert not check(f"{path}:{cls.__name__}", **{"network": mlp} | options).faults
    assert f"begun: {path}" in capsys.readouterr().out


def test_the_copy_draws_as_its_story_does(tmp_path):
    path = new(str(tmp_path / "mine.py"), "mixture")
    draws = []
    for spec in ("mixture", str(path)):
        torch.manual_seed(0)
        decoder = torch.nn.Linear(3, 5)
        decoder.event_shape = torch.Size([5])
        likelihood = components.build("likelihood", "normal", decoder=decoder)
        model = components.build("model", spec, likelihood=likelihood, latent_dim=3, num_items=7)
        draws.append(poutine.trace(model).get_trace(num_groups=2, num_views=4).nodes["x"]["value"])
    assert torch.equal(*draws)


def test_the_copy_is_fitted_as_it_is(tmp_path, fit_images):
    folder = fit_images(model=str(new(str(tmp_path / "mine.py"))), training={"epochs": 1})
    assert (folder / "model.py").read_text() == (tmp_path / "mine.py").read_text()


def test_what_to_keep_is_said_once_and_where_it_stands(tmp_path):
    path = new(str(tmp_path / "my_story.py"))
    text = path.read_text()
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith("#     ")) <= 120
    for command in ("check", "graph", "fit --model"):
        assert f"#     pyro-simvae {command} {path}:SimVAE" in text
    for key, start in {
        "__init__": "    def __init__",
        "forward": "    def forward",
        "groups": '        with pyro.plate("groups"',
        "content": '            content = pyro.sample("content"',
        "z": '                z = pyro.sample("z"',
        "x": '                return pyro.sample("x"',
    }.items():
        (row,) = (i for i, line in enumerate(lines) if line.startswith(start))
        comment = []
        while lines[row - 1].lstrip().startswith("#"):
            row -= 1
            comment.insert(0, lines[row].strip(" #"))
        assert " ".join(comment) == NOTES[key]
    assert text.count("# KEEP") == len(NOTES)


def test_a_site_of_a_modality_counts_as_a_view():
    source = "def f(name):\n    with g():\n        pyro.sample(f'x_{name}', fn)\n        pyro.sample('x_b', fn)\n"
    assert commented(source).count("# KEEP obs") == 1
    assert ast.dump(ast.parse(commented(source))) == ast.dump(ast.parse(source))


@pytest.mark.parametrize(
    ("path", "story", "message"),
    [
        ("my_story.py", "simvea", "unknown story 'simvea': did you mean simvae"),
        ("my_story.txt", "simvae", "is no .py file: give a path such as my_story.py"),
        ("nowhere/my_story.py", "simvae", "there is no folder .*nowhere: make it"),
        ("there.py", "simvae", "there.py exists: choose another path"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, path, story, message):
    (tmp_path / "there.py").write_text("mine")
    with pytest.raises(InputError, match=message):
        new(str(tmp_path / path), story)
    assert [file.name for file in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "mine"
