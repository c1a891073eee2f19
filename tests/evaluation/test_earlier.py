"""What an evaluation keeps of an earlier one."""

import json

import pytest

from pyro_simvae.commands import evaluate
from pyro_simvae.evaluation.earlier import digest, with_earlier

EARLIER = {
    "digest": "a",
    "scores": {"z": {"label": {"knn": 0.5, "linear": 0.25}}, "raw": {"label": {"knn": 1.0}}},
    "style_targets": ["x"],
    "style_scale": [0.5, 0.5],
    "left_out": ["b", "c"],
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(EARLIER))
    return path


def test_scores_of_the_same_weights_are_joined(path):
    now = {"scores": {"z": {"label": {"knn": 0.75}, "none": {"rankme": 2.0}}}, "style_targets": ["y", "x"]}
    found = with_earlier(path, now | {"digest": "a", "left_out": ["c", "d"], "style_scale": [0.5, 0.5]})
    assert found["scores"]["z"] == {"label": {"knn": 0.75, "linear": 0.25}, "none": {"rankme": 2.0}}
    assert found["scores"]["raw"] == {"label": {"knn": 1.0}}
    assert found["style_targets"] == ["x", "y"]
    assert found["left_out"] == ["b", "c", "d"]
    assert found["style_scale"] == [0.5, 0.5]


def test_those_of_other_weights_and_broken_files_are_not(path):
    now = {"digest": "b", "scores": {}}
    assert with_earlier(path, now) == now
    path.write_text("{")
    assert with_earlier(path, now) == now
    path.unlink()
    assert with_earlier(path, now) == now


def test_a_digest_is_of_the_content(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1")
    second.write_bytes(b"1")
    assert digest(first) == digest(second)
    second.write_bytes(b"2")
    assert digest(first) != digest(second)


def test_families_are_evaluated_one_after_the_other(fit_images):
    run = str(fit_images())
    evaluate(run, metrics=["probes"], representations=["z"])
    both = evaluate(run, metrics=["health"], representations=["z"])
    assert {"knn", "linear"} <= both["scores"]["z"]["label"].keys()
    assert "rankme" in both["scores"]["z"]["none"]
    last = evaluate(run, weights="last", metrics=["health"], representations=["z"])
    assert "label" not in last["scores"]["z"]
