"""inspect and explore, on small runs."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from pyro_simvae import cli, commands
from pyro_simvae.errors import InputError
from pyro_simvae.inspection.store import read


@pytest.fixture
def run(fit_images):
    return fit_images()


def inspected(folder):
    return json.loads((folder / "inspection.json").read_text())


def test_inspect_writes_tree_table_summary_and_figures(run, capsys):
    assert cli.main(["inspect", str(run), "--num_images", "4", "--num_draws", "30"]) == 0
    folder = run / "inspection"
    tree, rows, summary = (
        read(folder / "posterior.nc"),
        pd.read_csv(folder / "images.csv", index_col="group"),
        inspected(folder),
    )
    assert tree["posterior"]["z"].shape == (1, 30, 4, 2, 3)
    assert list(rows.index) == tree["posterior"]["group"].values.tolist()
    assert {"label", "k_hat", "elbo", "iwae_gap", "loo", "posterior_scale", "content_scale"} <= set(rows.columns)
    weights = tree["sample_stats"]["log_weight"].values[0]
    np.testing.assert_allclose(rows["elbo"], weights.mean(0), rtol=1e-5)
    assert summary["elbo"]["mean"] == pytest.approx(rows["elbo"].mean())
    assert summary["amortization_gap"]["mean"] >= 0
    assert set(summary["calibration"]) == {"content", "z", "log_joint"}
    assert {"ink", "symmetry", "group spread"} <= set(summary["predictive_checks"])
    assert summary["left_out"] == []
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"ellipses", "densities", "latents", "worst_fitted", "content_swap", "style_draws"} <= figures
    assert {"content_traversal", "style_traversal", "interpolation", "calibration_ranks"} <= figures
    assert "amortization gap" in capsys.readouterr().out
    # Again, over its own files.
    assert cli.main(["inspect", str(run), "--num_images", "2", "--num_draws", "30"]) == 0
    assert len(pd.read_csv(folder / "images.csv")) == 2


def test_zarr_holds_what_netcdf_holds(run, tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_simvae.inspection.command.AT_ONCE", 3)
    commands.inspect(str(run), num_images=6, num_draws=25, store="zarr", out=str(tmp_path / "zarr"))
    commands.inspect(str(run), num_images=6, num_draws=25, out=str(tmp_path / "netcdf"))
    parts, whole = read(tmp_path / "zarr" / "posterior.zarr"), read(tmp_path / "netcdf" / "posterior.nc")
    assert set(parts.children) == set(whole.children)
    for name, node in whole.children.items():
        assert dict(parts[name].sizes) == dict(node.sizes)
    np.testing.assert_array_equal(parts["posterior"]["group"], whole["posterior"]["group"])


def test_figures_and_diagnoses_are_of_the_views_of_the_tree(run, monkeypatch):
    seen = {}

    def record(fitted, groups, tree, rows, diagnosis, folder):
        seen["views"] = groups.x.numpy(), tree["observed_data"]["x"].values
        return []

    monkeypatch.setattr("pyro_simvae.inspection.command.AT_ONCE", 3)
    monkeypatch.setattr("pyro_simvae.figures.posterior.draw_inspection", record)
    for store in ("netcdf", "zarr"):
        commands.inspect(str(run), num_images=6, num_draws=25, store=store)
        few, of_tree = seen["views"]
        assert len(few) == 3
        np.testing.assert_array_equal(few, of_tree[:3])
    # The parts of the store have views of their own.
    boxes = read(run / "inspection" / "posterior.zarr")["constant_data"]["crop_box"].values
    assert (boxes[:3] != boxes[3:]).any()


def test_what_nuts_cannot_do_is_said(fit_images, monkeypatch):
    monkeypatch.setattr("pyro_simvae.inspection.diagnosis.WARMUP", 10)
    monkeypatch.setattr("pyro_simvae.inspection.diagnosis.NUM_DRAWS", 10)
    limit = commands.inspect(str(fit_images(limit="simclr")), num_images=3, num_draws=25, nuts=1)
    assert inspected(limit)["nuts"] == []
    assert "NUTS: for the same reason" in inspected(limit)["left_out"]
    flow = commands.inspect(str(fit_images(out="flow", guide="flow")), num_images=3, num_draws=25, nuts=1)
    (found,) = inspected(flow)["nuts"]
    assert "approximation_gap" not in found
    assert math.isfinite(found["log_evidence"])
    half = fit_images(out="half", limit={"class_path": "simclr", "init_args": {"t": 0.5}})
    folder = commands.inspect(str(half), num_images=3, num_draws=25)
    assert any("under a limit with 0 < t < 1" in line for line in inspected(folder)["left_out"])


def test_heavy_tails_without_a_mean_are_drawn(fit_images):
    run = fit_images(model={"class_path": "heavy_tails", "init_args": {"degrees_of_freedom": 1.0}})
    folder = commands.inspect(str(run), num_images=3, num_draws=25)
    assert (folder / "figures" / "ellipses.png").exists()


def test_chosen_images_and_nuts(run, monkeypatch):
    monkeypatch.setattr("pyro_simvae.inspection.diagnosis.WARMUP", 20)
    monkeypatch.setattr("pyro_simvae.inspection.diagnosis.NUM_DRAWS", 20)
    folder = commands.inspect(str(run), images=[2, 0], num_draws=30, nuts=1)
    (found,) = inspected(folder)["nuts"]
    assert found["image"] == 2
    assert math.isfinite(found["log_evidence"])
    assert found["relative_error"] > 0
    assert found["amortization_gap"] >= 0
    assert math.isfinite(found["moved_z"])
    assert found["scale_ratio_content"] > 0
    assert "trouble" in found


def test_without_densities_there_are_the_draws_alone(run):
    folder = commands.inspect(str(run), num_images=3, num_draws=10, densities=False)
    assert set(read(folder / "posterior.nc").children) == {"posterior", "observed_data", "constant_data"}
    assert any("densities" in line for line in inspected(folder)["left_out"])


def test_a_limit_gets_what_makes_sense_and_a_line_on_the_rest(fit_images, capsys):
    run = fit_images(limit="simclr")
    folder = commands.inspect(str(run), num_images=4, num_draws=20)
    assert set(read(folder / "posterior.nc").children) == {"posterior", "observed_data", "constant_data"}
    assert "untrained" in inspected(folder)["left_out"][0]
    assert {path.stem for path in (folder / "figures").iterdir()} == {"ellipses", "densities", "latents"}
    assert "left out" in capsys.readouterr().out
    page = commands.explore(str(run), num_images=4, num_draws=20)
    assert "<html" in page.read_text()


def test_images_without_labels(tmp_path, fit_images):
    rng = np.random.default_rng(0)
    path = tmp_path / "bare.npz"
    np.savez(path, images=rng.integers(0, 255, (40, 6, 6), dtype=np.uint8))
    run = fit_images(data=f"arrays:{path}")
    folder = commands.inspect(str(run), num_images=4, num_draws=25)
    assert "label" not in pd.read_csv(folder / "images.csv")
    commands.explore(str(run), num_images=4, num_draws=25)


def test_other_data_of_the_same_shape(run, tmp_path):
    path = tmp_path / "grey.npz"
    np.savez(path, images=np.full((30, 6, 6), 51, dtype=np.uint8))
    folder = commands.inspect(str(run), data=f"arrays:{path}", split="train", num_images=3, num_draws=25)
    assert inspected(folder)["split"] == "train"
    np.testing.assert_allclose(read(folder / "posterior.nc")["observed_data"]["x"], 0.2, atol=1e-5)


def test_vectors_have_no_pictures(fit_images, tmp_path):
    path = tmp_path / "vectors.npz"
    np.savez(path, views=np.random.default_rng(0).normal(size=(40, 2, 5)).astype(np.float32))
    run = fit_images(data=f"arrays:{path}", likelihood="normal")
    folder = commands.inspect(str(run), num_images=4, num_draws=25)
    assert any("vectors" in line for line in inspected(folder)["left_out"])
    assert "ellipses.png" in {path.name for path in (folder / "figures").iterdir()}
    with pytest.raises(InputError, match="the explorer shows images"):
        commands.explore(str(run))


def test_explore_writes_a_page(run):
    path = commands.explore(str(run), num_images=5, num_draws=30)
    text = path.read_text()
    assert path.name == "explorer.html"
    assert "k_hat" in text
    assert "Content-Security-Policy" in text  # nothing from off the page


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"images": [3, 99]}, "give positions from 0 to"),
        ({"images": []}, "give positions from 0 to"),
        ({"num_images": 0}, "num_images is 0: give 1 or more"),
        ({"num_draws": 1}, "num_draws is 1: give a whole number, 2 or more"),
        ({"split": "tset"}, "unknown split 'tset': did you mean test"),
        ({"data": "digits"}, r"the images are \(1, 8, 8\), those of the run \(1, 6, 6\)"),
    ],
)
def test_what_cannot_be_inspected_says_why(run, options, text):
    with pytest.raises(InputError, match=text):
        commands.inspect(str(run), **options)
    assert not (run / "inspection").exists()


def test_used_places_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="is already used: choose another --out"):
        commands.inspect(str(run), out=str(run))
    (tmp_path / "page.html").touch()
    with pytest.raises(InputError, match="exists: choose another --out"):
        commands.explore(str(run), out=str(tmp_path / "page.html"))
    with pytest.raises(InputError, match=r"is no \.html file"):
        commands.explore(str(run), out=str(tmp_path / "page.txt"))
