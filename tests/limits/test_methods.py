"""Tables and pages follow from the claims, and those in the repository are up to date."""

from pathlib import Path

import pytest

from pyro_simvae.errors import InputError
from pyro_simvae.limits import LIMITS, Claim, Limit, methods

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "generated"), [("README.md", methods.markdown_table), ("docs/methods.md", methods.page)]
)
def test_repository_holds_what_is_generated(path, generated):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert methods.replace(text, generated()) == text, f"{path} is out of date: run make docs"


def test_write_renews_what_is_between_the_markers_only(tmp_path):
    (tmp_path / "docs").mkdir()
    for path in ("README.md", "docs/methods.md"):
        (tmp_path / path).write_text(f"before\n\n{methods.BEGIN}\nold\n{methods.END}\nafter\n", encoding="utf-8")
    methods.write(tmp_path)
    for path, part in (("README.md", methods.markdown_table()), ("docs/methods.md", methods.page())):
        text = (tmp_path / path).read_text(encoding="utf-8")
        assert text == f"before\n\n{methods.BEGIN}\n\n{part}\n\n{methods.END}\nafter\n"


def test_text_without_markers():
    with pytest.raises(InputError, match="no place for the limits"):
        methods.replace("before and after", "table")


def test_every_limit_has_a_section_with_its_claim():
    page = methods.page()
    for name, limit in LIMITS.items():
        assert f"### {limit.__name__}: `{name}`" in page
        for text in (limit.claim.statement, limit.claim.entropy, limit.claim.parameters):
            assert text in page


def test_every_argument_is_in_the_section():
    text = methods.section("vicreg")
    assert "`lambda_param = 25.0`, `mu_param = 25.0`, `nu_param = 1.0`: λ > 0" in text
    assert "`eps = 0.0001`: >= 0, added to variances." in text
    assert "`temperature = 0.5`: τ > 0" in methods.section("simclr")  # described by its base class
    assert "Args:" not in methods.page()


def test_columns_of_the_markdown_table_are_not_torn(monkeypatch):
    class Torn(Limit):
        claim = Claim("exact", "a", "p(z | c)", "b", "H[z]", "c", "d", "e", tested_to=1e-9)

    monkeypatch.setitem(LIMITS, "torn", Torn)
    *_, row = methods.markdown_table().splitlines()
    assert row == "| `torn` | exact | p(z \\| c) | b | H[z] | e | 1e-9 |"


def test_select():
    assert list(methods.select(["vicreg", "simclr"])) == ["vicreg", "simclr"]
    assert methods.select([]) == LIMITS
    with pytest.raises(InputError, match="unknown limit 'vicregg': did you mean vicreg"):
        methods.select(["vicregg"])
