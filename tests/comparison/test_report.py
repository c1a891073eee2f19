"""The report: one page that opens in a browser without an error and asks for nothing beside itself."""

import json
import shutil
from html.parser import HTMLParser

import pytest

from pyro_simvae.comparison.report import write_report
from pyro_simvae.comparison.results import collect

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


@pytest.fixture
def write(made_up):
    """write(failures, **grid) -> path of the report of a comparison that is made up."""

    def make(failures=(), **entries):
        grid, out = made_up(**entries)
        write_report(grid, collect(grid, out), list(failures), out)
        return out / "report.html"

    return make


class Sources(HTMLParser):
    """Every address that a page names."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_page_holds_tables_pictures_settings_and_no_address_beside_itself(write):
    text = write().read_text()
    sources = Sources()
    sources.feed(text)
    assert all(source.startswith(("data:image/", "#")) for source in sources.found)
    assert sum(source.startswith("data:image/png") for source in sources.found) == 2 + 3  # two charts, three galleries
    for part in ("SimCLR", "Raw input", "style, linear", "Holm", "hue: knn", "generative story", "2.15.0", "0, 1, 2"):
        assert part in text
    assert "epochs: 20" in text  # the whole config
    assert "whatever needs more: there is none" in text


def test_whatever_comes_from_outside_is_escaped(write):
    failure = {"data": "digits", "method": "simclr", "seed": 0, "reason": "<script>alert(1)</script>", "log": "x"}
    text = write([failure]).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "a &lt;fast&gt; device" in text


def test_without_labels_the_page_says_so(write):
    text = write(labels=False).read_text()
    assert "The data has no labels" in text
    assert "15-NN" not in text


def test_a_comparison_in_which_all_failed_still_has_a_page(write, made_up, tmp_path):
    grid, out = made_up(methods=("simvae",), seeds=(0,))
    shutil.rmtree(out / "runs")
    failure = {"data": "digits", "method": "simvae", "seed": 0, "reason": "out of paper", "log": "x"}
    write_report(grid, collect(grid, out), [failure], out)
    assert "out of paper" in (out / "report.html").read_text()


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver")
def test_page_opens_in_chromium_without_an_error_or_a_request_off_the_page(write, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    page = write().as_uri()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        browser.get(page)
        browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
        table = "document.querySelector('table.sortable')"
        button = f"{table}.tHead.rows[0].cells[4].querySelector('button')"
        names = f"return [...{table}.tBodies[0].rows].map(row => row.cells[0].innerText)"
        assert browser.execute_script(names) == ["SimVAE", "SimCLR", "Untrained", "Raw input"]
        browser.execute_script(f"{button}.click()")
        falling = browser.execute_script(names)
        browser.execute_script(f"{button}.click()")
        # By style, which raw input has no score of: it stays last.
        assert falling == ["Untrained", "SimCLR", "SimVAE", "Raw input"]
        assert browser.execute_script(names) == ["SimVAE", "SimCLR", "Untrained", "Raw input"]
        broken = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
        assert browser.execute_script(broken) == 0
        assert browser.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    finally:
        browser.quit()
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = {e["request"]["url"] for e in sent if e["documentURL"] == page}
    assert page in asked
    assert all(url == page or url.startswith("data:") for url in asked)
