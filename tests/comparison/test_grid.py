"""The grid: what names stand for, how options are laid over each other, and what is refused before anything runs."""

import pytest
import yaml

from pyro_simvae.comparison.grid import flat, parse, read
from pyro_simvae.comparison.methods import METHODS, merged
from pyro_simvae.errors import InputError
from pyro_simvae.limits import LIMITS


def grid(**entries):
    return parse({"data": ["digits"], "methods": ["simvae"], "seeds": [0], **entries})


def configs(**entries):
    return {cell.method: cell.config.to_dict() for cell in grid(**entries).cells()}


def test_cells_are_the_product_with_a_seed_of_all_before_the_next_of_any():
    cells = grid(data=["digits", "sprites"], methods=["simvae", "vae"], seeds=[3, 1]).cells()
    assert [(cell.seed, cell.data, cell.method) for cell in cells] == [
        (seed, data, method) for seed in (3, 1) for data in ("digits", "sprites") for method in ("simvae", "vae")
    ]
    assert [cell.config.seed for cell in cells] == [3] * 4 + [1] * 4


def test_known_methods_set_what_tells_them_apart_and_share_the_rest():
    found = configs(
        base={"latent_dim": 7, "network": "mlp", "training": {"epochs": 3, "num_groups": 16}},
        methods=["simvae", "vae", "beta_vae", "cr_vae", "iwae", "byol", "supervised", "untrained"],
    )
    for config in found.values():
        assert config["latent_dim"] == 7
        assert config["network"]["class_path"] == "mlp"
        assert config["training"]["num_groups"] == 16
    assert found["simvae"]["model"]["class_path"] == "simvae"
    assert found["simvae"]["limit"] is None
    assert {found[name]["model"]["class_path"] for name in ("vae", "beta_vae", "cr_vae", "iwae")} == {"vae"}
    assert found["beta_vae"]["training"]["kl_weight"] == 4
    assert found["vae"]["training"]["kl_weight"] == 1
    assert found["cr_vae"]["guide"]["class_path"] == "consistent"
    assert found["iwae"]["training"]["num_particles"] == 5
    assert found["byol"]["limit"]["class_path"] == "byol"
    assert found["supervised"]["limit"]["class_path"] == "softmax"
    assert found["untrained"]["training"]["epochs"] == 0


def test_every_limit_is_a_method():
    assert set(LIMITS) <= set(METHODS)
    assert {name for name, method in METHODS.items() if method.sees_labels} == {"softmax", "supcon", "supervised"}


def test_own_methods_and_overrides_are_laid_over_the_base():
    found = configs(
        base={
            "training": {"epochs": 3, "learning_rate": 0.01},
            "model": {"class_path": "simvae", "init_args": {"style_scale": 0.2}},
        },
        methods={
            "simvae": {"training": {"learning_rate": 0.1}},
            "simclr_half": {"limit": {"class_path": "simclr", "init_args": {"t": 0.5}}, "title": "half"},
            "simclr": {"limit": {"init_args": {"temperature": 0.3}}},
            "vae": None,
        },
    )
    assert found["simvae"]["training"]["learning_rate"] == 0.1
    assert found["simvae"]["training"]["epochs"] == 3
    assert found["simvae"]["model"]["init_args"]["style_scale"] == 0.2
    assert found["simclr_half"]["limit"]["init_args"]["t"] == 0.5
    assert found["simclr_half"]["training"]["learning_rate"] == 0.01
    assert found["simclr"]["limit"]["init_args"]["temperature"] == 0.3
    assert "style_scale" not in found["vae"]["model"]["init_args"]


def test_merging_a_component_of_another_class_drops_the_arguments_of_the_first():
    base = {"network": {"class_path": "mlp", "init_args": {"hidden": [8]}}}
    same = merged(base, {"network": {"init_args": {"hidden": [9]}}})
    other = merged(base, {"network": "conv"})
    assert same["network"] == {"class_path": "mlp", "init_args": {"hidden": [9]}}
    assert other["network"] == {"class_path": "conv", "init_args": {}}
    assert merged({"limit": "simclr"}, {"limit": None})["limit"] is None


def test_raw_input_brings_the_untrained_run_that_scores_it():
    found = grid(methods=["simvae", "raw"])
    assert list(found.methods) == ["simvae", "raw", "untrained"]
    assert [cell.method for cell in found.cells()] == ["simvae", "untrained"]


def test_titles_reference_and_metrics():
    found = grid(methods={"vae": {"title": "plain"}, "byol": None}, metrics=["clusters", "probes"])
    assert found.methods["vae"].title == "plain"
    assert found.reference == "vae"
    assert set(found.metrics) == {"probes", "clusters"}
    assert grid(methods=["vae", "simvae"]).reference == "simvae"
    assert grid(methods=["vae", "simvae"], reference="vae").reference == "vae"


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("digits", ["digits"]),
        (["folder:images/cats", "arrays:a/b.npz"], ["folder-cats", "arrays-b"]),
        ({"small": {"class_path": "digits", "init_args": {"split_seed": 1}}, "digits": None}, ["small", "digits"]),
    ],
)
def test_data_has_names_that_a_folder_can_have(data, names):
    assert list(grid(data=data).data) == names


def test_plain_form_describes_the_same_grid():
    first = grid(
        base={"training": {"epochs": 2}},
        methods={"simvae": None, "raw": None, "x": {"model": "vae"}},
        metrics=["probes"],
    )
    again = parse(yaml.safe_load(yaml.safe_dump(first.to_dict(), sort_keys=False)))
    for found in (first, again):
        assert list(found.methods) == ["simvae", "raw", "x", "untrained"]
    assert [cell.config.to_dict() for cell in again.cells()] == [cell.config.to_dict() for cell in first.cells()]
    assert parse(again.to_dict()).to_dict() == again.to_dict()


def test_reads_a_file_with_numbers_in_short_form(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: [digits]\nmethods: {simvae: {training: {learning_rate: 1e-3}}}\nseeds: [0]\n")
    assert read(path).cells()[0].config.training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not valid YAML"), ("just words", "holds no comparison")],
)
def test_files_that_hold_no_grid_are_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"method": []}, "unknown entry of the comparison 'method': did you mean methods"),
        ({"methods": ["simvea"]}, "unknown method 'simvea': did you mean simvae"),
        ({"metrics": ["probe"]}, "unknown metric 'probe': did you mean probes"),
        ({"data": ["digit"]}, "unknown data 'digit': did you mean digits"),
        ({"reference": "vae"}, "unknown reference 'vae'"),
        ({"data": []}, "the comparison has no data"),
        ({"methods": []}, "the comparison has no methods"),
        ({"seeds": []}, "the comparison has no seeds"),
        ({"seeds": 3}, "seeds is 3: give a list"),
        ({"seeds": [0, "a"]}, "give a list of whole numbers"),
        ({"seeds": [1, 1]}, "one given twice"),
        ({"data": ["digits", "digits"]}, "the data 'digits' is given twice"),
        ({"methods": ["vae", "vae"]}, "the method 'vae' is given twice"),
        ({"methods": {"a/b": {"model": "vae"}}}, "'a/b' cannot name a folder"),
        ({"methods": {"vae": 3}}, "the method 'vae' is 3: give options"),
        ({"methods": {"raw": {"latent_dim": 3}}}, "the method 'raw' is not fitted"),
        ({"methods": {"x": {"limit": {"init_args": {"t": 0.5}}}}}, "names no class"),
    ],
)
def test_grids_that_cannot_be_used_are_refused(entries, message):
    with pytest.raises(InputError, match=message):
        grid(**entries)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"netwrok": "mlp"}, "unknown option of fit 'netwrok': did you mean network"),
        ({"training": {"epoch": 3}}, "unknown setting of training 'epoch': did you mean epochs"),
        ({"training": 3}, "training is 3: give its settings"),
        ({"training": {"epochs": -1}}, "training.epochs is -1"),
        ({"hardware": {"devices": 2}}, "leave out hardware.devices and num_nodes"),
        ({"network": "mpl"}, "unknown network 'mpl': did you mean mlp"),
        ({"seed": 3}, "unknown option of fit 'seed'"),
    ],
)
def test_options_that_fit_does_not_have_are_refused(base, message):
    with pytest.raises(InputError, match=message):
        grid(base=base).cells()


def test_nested_mappings_become_dotted_keys():
    assert flat({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}
