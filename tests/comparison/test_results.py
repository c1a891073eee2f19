"""The tidy table: every score of every cell once, with the means over style and content."""

import json

import pandas as pd
import pytest

from pyro_simvae.comparison import results
from pyro_simvae.comparison.markdown import markdown


def value(scores, **where):
    rows = scores
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return rows["value"].item()


def test_every_score_is_found_once(made_up):
    grid, out = made_up()
    scores = results.collect(grid, out)
    assert list(scores.columns) == results.COLUMNS
    assert not scores.duplicated(results.COLUMNS[:-1]).any()
    assert list(scores["method"].unique()) == list(grid.methods)
    assert value(scores, method="simvae", seed=2, target="none", metric="rankme") == pytest.approx(3 + 2.6)
    assert value(scores, method="simclr", seed=0, representation="story", metric="bound") == pytest.approx(-100.1)
    assert value(scores, method="simvae", seed=0, representation="fit", metric="seconds") == 2.0


def test_style_and_content_are_means_over_their_factors_without_the_label(made_up):
    grid, out = made_up(seeds=(0,))
    scores = results.collect(grid, out)
    here = {"method": "simclr", "representation": "z"}
    assert value(scores, **here, target="style", metric="linear") == pytest.approx((0.1 + 0.5) / 2)
    assert value(scores, **here, target="style", metric="knn") == pytest.approx(0.3)
    assert value(scores, **here, target="content", metric="linear") == 0.25
    # Not every style factor has it.
    assert scores[(scores["target"] == "style") & (scores["metric"] == "kernel")].empty


def test_raw_input_is_a_method_whose_scores_the_untrained_run_holds(made_up):
    grid, out = made_up()
    scores = results.collect(grid, out)
    assert set(scores[scores["representation"] == "raw"]["method"]) == {"raw"}
    assert set(scores[scores["method"] == "raw"]["representation"]) == {"raw"}
    without, out = made_up(methods=("vae", "untrained"), seeds=(5,))
    assert "raw" not in set(results.collect(without, out)["representation"])


def test_unfinished_cells_have_no_rows(made_up):
    grid, out = made_up(seeds=(0,))
    record = grid.cells()[0].folder(out) / "cell.json"
    record.write_text(json.dumps({"fit": {"seconds": 1.0}}))
    assert "simvae" not in set(results.collect(grid, out)["method"])


def test_written_tables_read_back(made_up):
    grid, out = made_up()
    scores = results.collect(grid, out)
    results.write(scores, out)
    pd.testing.assert_frame_equal(pd.read_csv(out / "scores.csv"), scores)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "scores.parquet"), scores)


def test_raw_input_fails_with_the_run_that_scores_it():
    failures = [
        {"data": "digits", "method": "untrained", "reason": "no space"},
        {"data": "digits", "method": "vae", "reason": "first"},
        {"data": "digits", "method": "vae", "reason": "second"},
        {"data": "sprites", "method": "byol", "reason": "elsewhere"},
    ]
    assert results.reasons(failures, "digits") == {"untrained": "no space", "raw": "no space", "vae": "first"}
    assert results.reasons([], "digits") == {}


def test_directions():
    assert [results.sign(name) for name in ("linear", "frechet", "posterior_scale")] == [1, -1, 0]


def test_markdown_has_a_row_a_method_and_says_what_its_signs_mean(made_up):
    grid, out = made_up(methods=("simvae", "simclr", "supervised"))
    text = markdown(results.collect(grid, out), grid, [])
    lines = text.splitlines()
    assert lines[2] == "| method | 15-NN | linear | content, linear | style, linear | style, knn |".replace(
        " | style, knn |", " | bound, nats | seconds |"
    )
    assert [line.split(" | ")[0] for line in lines[4:7]] == ["| SimVAE", "| SimCLR", "| Supervised †"]
    assert "| 0.630 ± 0.130 |" in lines[4]  # 0.5 + 0.1 x, x = 0, 1.3, 2.6
    assert "over the seeds 0, 1, 2" in text
    assert "Holm" in text
    assert "† sees the labels" in text


def test_markdown_names_what_has_collapsed(made_up):
    grid, out = made_up(methods=("simvae", "simsiam"))
    for cell in grid.cells():
        path = cell.folder(out) / "evaluation.json"
        evaluation = json.loads(path.read_text())
        evaluation["scores"]["z"]["none"]["collapsed"] = float(cell.method == "simsiam" and cell.seed > 0)
        path.write_text(json.dumps(evaluation))
    text = markdown(results.collect(grid, out), grid, [])
    assert "- SimSiam collapsed (seeds: 2 of 3)" in text
    assert "SimVAE collapsed" not in text


def test_markdown_marks_failures_and_missing_labels(made_up):
    grid, out = made_up(seeds=(0,), labels=False, methods=("simvae", "simclr"))
    cell = grid.cells()[1]
    (cell.folder(out) / "cell.json").unlink()
    failure = {"data": "digits", "method": "simclr", "seed": 0, "reason": "not | finite"}
    text = markdown(results.collect(grid, out), grid, [failure])
    assert "| SimCLR | failed: not \\| finite |" in text
    assert "The data has no labels" in text
    assert "One seed (0): no spread" in text
    partly = markdown(results.collect(grid, out), grid, [failure | {"method": "simvae"}])
    assert "- Failed: SimVAE, seed 0: not \\| finite" in partly


def test_modalities_and_retrieval_have_rows_of_their_own():
    evaluation = {
        "modalities": {"image": {"z": {"label": {"knn": 0.5}}}},
        "retrieval": {"image to text": {"recall_1": 0.25}},
    }
    assert list(results.flatten(evaluation)) == [
        ("z of image", "label", "knn", 0.5),
        ("retrieval", "image to text", "recall_1", 0.25),
    ]
