"""The explorer page: pictures where they belong, regions that hold what they claim, filters, and a smooth pan."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from pyro_simvae.errors import InputError
from pyro_simvae.inspection import explorer
from pyro_simvae.inspection.explorer import Points, page

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
    "--window-size=1280,900",
)
NASTY = "<img src=x onerror='window.broken=1'></script>"
CHI2_2 = -2 * np.log(0.1)
"""The 90 % quantile of a chi-squared variable with two degrees of freedom."""


def digits(count=300, dim=5, **changes):
    """Points of scikit-learn's digits, views shifted by a pixel, z a random projection of them."""
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    chosen = np.arange(count) % len(images)
    first = images[chosen].reshape(count, 1, 8, 8) / 16
    views = np.stack([first, np.roll(first, 1, axis=-1)], axis=1)
    k_hat = rng.normal(size=count)
    k_hat[::10], k_hat[5::100] = np.nan, np.inf
    # Repeated digits get latents of their own.
    z_loc = views.reshape(count, 2, 64) @ rng.normal(size=(64, dim)) / 4 + 0.1 * rng.normal(size=(count, 2, dim))
    given = {
        "images": views,
        "z_loc": z_loc,
        "z_scale": rng.uniform(0.1, 0.5, size=(count, 2, dim)),
        "reconstructions": views / 2,
        "content_loc": z_loc.mean(axis=1),
        "content_scale": np.full((count, dim), 0.2),
        "labels": labels[chosen],
        "factors": {"stroke": rng.uniform(1, 3, size=count)},
        "diagnostics": {"k_hat": k_hat},
    }
    return Points(**given | changes)


# ---------------------------------------------------------------- the data behind the page


def tile(tiles, number):
    """The pixels `(H, W, ...)` of one image, by the arithmetic of the browser."""
    at = number % (tiles["across"] * tiles["down"])
    sheet = np.array(Image.open(io.BytesIO(tiles["sheets"][number // (tiles["across"] * tiles["down"])])))
    top, left = at // tiles["across"] * tiles["height"], at % tiles["across"] * tiles["width"]
    return sheet[top : top + tiles["height"], left : left + tiles["width"]]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_lies_in_its_place_on_a_sheet(monkeypatch, channels):
    monkeypatch.setattr(explorer, "SHEET_SIDE", 16)
    rng = np.random.default_rng(0)
    images, means = rng.uniform(-0.1, 1.1, size=(2, 5, 2, channels, 4, 6))
    images[0, 0, 0, 0, 0] = np.nan
    tiles = explorer._tiles(digits(5, images=images, reconstructions=means))
    assert len(tiles["sheets"]) == 3  # twenty images, two across and four down
    expected = np.stack([images, means], axis=1).reshape(-1, channels, 4, 6).transpose(0, 2, 3, 1)
    expected = 255 * np.nan_to_num(expected, nan=0.0).clip(0, 1)
    for number, pixels in enumerate(expected):
        np.testing.assert_allclose(tile(tiles, number), pixels if channels == 3 else pixels[..., 0], atol=0.5001)


def test_images_larger_than_a_sheet_have_one_each(monkeypatch):
    monkeypatch.setattr(explorer, "SHEET_SIDE", 4)
    assert len(explorer._tiles(digits(3, reconstructions=None))["sheets"]) == 6


def test_neighbours_are_the_nearest_others_even_among_copies():
    z = np.random.default_rng(0).normal(size=(30, 3))
    z[1] = z[0]
    distances = np.linalg.norm(z[:, None] - z[None], axis=-1) + np.diag(np.full(30, np.inf))
    found = explorer._neighbours(z)
    assert found.shape == (30, 8)
    np.testing.assert_allclose(np.take_along_axis(distances, found, 1), np.sort(distances)[:, :8], atol=1e-12)
    assert found[0, 0] == 1
    assert found[1, 0] == 0
    assert explorer._neighbours(z[:2]).tolist() == [[1], [0]]


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_directions_are_principal_components_then_dimensions(dim):
    points = digits(40, dim)
    space = explorer._space("z", points.z_loc, points.z_scale)
    at = points.z_loc[:, 0] @ space["directions"].T.astype(float) - space["centre"]
    np.testing.assert_allclose(at[:, 2:], points.z_loc[:, 0], atol=1e-6)
    exact = PCA(min(dim, 2)).fit_transform(points.z_loc[:, 0])
    np.testing.assert_allclose(np.abs(at[:, : min(dim, 2)]), np.abs(exact), atol=1e-5)
    if dim == 1:
        assert not at[:, 1].any()


def test_columns_know_their_finite_range_and_one_outlier_does_not_take_the_colours():
    values = np.append(np.linspace(0, 1, 997), [np.nan, np.inf, 1e6])
    columns = explorer._columns(
        digits(1000, diagnostics={"k_hat": values, "none": values * np.nan, "one": 0 * np.arange(1000)}, factors={})
    )
    k_hat, none, one = columns
    assert (k_hat.low, k_hat.high) == (0, 1e6)
    assert k_hat.shades == pytest.approx((0.01, 0.99), abs=0.01)
    assert [column.varies for column in columns] == [True, False, False]
    assert np.isnan(none.low)
    assert one.low == one.high == 0
    rare = explorer._columns(digits(1000, diagnostics={"rare": np.arange(1000) == 5}, factors={}))[0]
    assert rare.shades == (0, 1)


def test_classes_are_those_that_occur_by_name_where_they_have_one():
    labels = np.array([7, 2, 7])
    classes, names = explorer._classes(digits(3, labels=labels))
    assert (classes.tolist(), names) == ([1, 0, 1], ["2", "7"])
    assert explorer._classes(digits(3, labels=labels, class_names=list("abcdefgh")))[1] == ["c", "h"]
    assert explorer._classes(digits(3, labels=None)) == (None, [])
    assert len(set(explorer._palette(37))) == 37


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((4, 2, 9))}, r"views of shape \(9,\) are not images"),
        ({"images": np.zeros((4, 2, 2, 8, 8))}, "1 or 3 channels"),
        ({"images": np.zeros((1, 2, 1, 8, 8))}, "give at least two"),
        ({"content_scale": None}, "give both, or neither"),
        ({"reconstructions": np.zeros((4, 1, 1, 8, 8))}, r"reconstructions has shape .* give \(4, 2, 1, 8, 8\)"),
        ({"z_scale": np.ones((4, 2, 3))}, r"z_scale has shape .* give \(4, 2, 5\)"),
        ({"content_loc": np.ones((4, 3))}, r"content_scale has shape .* give \(4, 3\)"),
        ({"labels": np.zeros((4, 1), int)}, r"labels has shape \(4, 1\)"),
        ({"factors": {"hue": np.zeros(3)}}, r"hue has shape \(3,\)"),
        ({"z_loc": np.full((4, 2, 5), np.nan)}, "not finite"),
        ({"z_loc": np.zeros((4, 2, 0)), "z_scale": np.zeros((4, 2, 0))}, "empty"),
        ({"class_names": ["zero", "one"]}, "labels are 0 to 3 and 2 classes have names"),
    ],
)
def test_points_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        digits(4, **changes)


# ---------------------------------------------------------------- the page in a browser


class Browser:
    """Chromium on one page."""

    def __init__(self, driver, folder):
        self.driver, self.folder = driver, folder

    def open(self, points, title="Digits"):
        path = self.folder / "page.html"
        path.write_text(page(points, title), encoding="utf-8")
        self.driver.get(path.as_uri())
        self.wait("document.getElementById('count').textContent")

    def run(self, script, *args):
        setup = "const model = name => Bokeh.documents[0].get_model_by_name(name), plot = model('plot'),"
        setup += " [dots, regions, centres] = plot.renderers.map(each => each.data_source.data);"
        return self.driver.execute_script(setup + script, *args)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 20).until(lambda driver: driver.execute_script(f"return {condition}"))

    def wait_for(self, condition):
        """Waits for what `run` can see."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20).until(lambda _: self.run(f"return {condition}"))

    def set(self, name, value):
        self.run("model(arguments[0]).value = arguments[1]", name, value)

    def move_to(self, item):
        """Moves the pointer onto the dot of an item; the actions so far, to go on with."""
        from selenium.webdriver import ActionChains

        # Ranges that were set anew are drawn in the next frame.
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        x, y = self.run(
            """const {left, right, top, bottom} = Bokeh.index.find_one(plot).frame.bbox;
            const at = (value, {start, end}, first, last) => first + (value - start) / (end - start) * (last - first);
            const i = arguments[0];
            return [at(dots.x[i], plot.x_range, left, right), at(dots.y[i], plot.y_range, bottom, top)]""",
            item,
        )
        box = self.driver.find_element("id", "plot")
        offset = round(x - box.rect["width"] / 2), round(y - box.rect["height"] / 2)
        return ActionChains(self.driver).move_to_element_with_offset(box, *offset)

    def outermost(self):
        """The rightmost item: no other dot lies on its own."""
        return self.run("return [...dots.x].indexOf(Math.max(...dots.x))")

    def text(self, selector):
        return self.driver.find_element("css selector", selector).text

    def pictures(self, selector):
        return self.driver.find_elements("css selector", f"{selector} .picture")

    def errors(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def shown_pixels(element):
    """The 8 x 8 grey values that are on the screen, in [0, 1], read in the middle of each enlarged pixel."""
    pixels = np.array(Image.open(io.BytesIO(element.screenshot_as_png)).convert("L")) / 255
    side = len(pixels) // 8
    return pixels[side // 2 :: side, side // 2 :: side][:8, :8]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    folder = tmp_path_factory.mktemp("explorer")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver, folder)
    finally:
        driver.quit()


@pytest.fixture
def opened(browser):
    """The page of 300 digits and the points on it; in the end, no error may have been written."""
    points = digits()
    browser.open(points)
    yield browser, points
    assert browser.errors() == []


def test_page_asks_for_nothing_beside_itself(browser):
    browser.driver.get_log("performance")
    browser.open(digits())
    browser.move_to(browser.outermost()).click().perform()
    browser.wait("!document.getElementById('hover').hidden")
    events = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    own = (browser.folder / "page.html").as_uri()
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = {e["request"]["url"] for e in sent if e["documentURL"] == own}  # the others are the browser's
    assert own in asked
    assert any(url.startswith("blob:") for url in asked)  # the sheets of images, out of the page itself
    assert all(url == own or url.startswith(("data:", "blob:")) for url in asked)
    assert browser.errors() == []


def test_pointer_shows_the_image_its_reconstruction_label_and_diagnostics(opened):
    browser, points = opened
    item = browser.outermost()
    assert browser.run("return document.getElementById('hover').hidden")
    browser.move_to(item).perform()
    browser.wait("!document.getElementById('hover').hidden")
    wanted = [picture for view in (0, 1) for picture in (points.images[item, view], points.reconstructions[item, view])]
    found = browser.pictures("#hover")
    assert len(found) == 4
    for element, picture in zip(found, wanted, strict=True):
        np.testing.assert_allclose(shown_pixels(element), picture[0], atol=0.01)
    text = browser.text("#hover")
    assert f"item {item} {points.labels[item]}" in text
    assert "k_hat" in text
    browser.move_to(item).move_by_offset(0, -60).perform()
    browser.wait("document.getElementById('hover').hidden")


def test_click_shows_views_neighbours_values_and_a_click_on_a_neighbour_goes_there(opened):
    browser, points = opened
    item = browser.outermost()
    browser.move_to(item).click().perform()
    browser.wait(f"document.querySelector('#pinned h2').textContent.startsWith('Item {item} ')")
    assert len(browser.pictures("#pinned .views")) == 4
    near = np.argsort(np.linalg.norm(points.z_loc[:, 0] - points.z_loc[item, 0], axis=1))[1:9]
    buttons = browser.driver.find_elements("css selector", "#pinned .near button")
    assert [button.get_attribute("title") for button in buttons] == [f"item {other}" for other in near]
    picture = buttons[2].find_element("css selector", ".picture")
    np.testing.assert_allclose(shown_pixels(picture), points.images[near[2], 0, 0], atol=0.01)
    assert f"{points.factors['stroke'][item]:.4g}" in browser.text("#pinned dl")
    buttons[2].click()
    assert browser.text("#pinned h2").startswith(f"Item {near[2]} ")


@pytest.mark.parametrize("axes", [(0, 1), (2, 5)])
def test_regions_hold_ninety_percent_of_each_posterior_in_the_plane(opened, axes):
    browser, points = opened
    for name, axis in zip(("across", "up"), axes, strict=True):
        browser.set(name, str(axis))
    item = browser.outermost()
    browser.move_to(item).click().perform()
    browser.wait(f"document.querySelector('#pinned h2').textContent.startsWith('Item {item} ')")
    space = explorer._space("z", points.z_loc, points.z_scale)
    plane, centre = space["directions"][list(axes)].astype(float), space["centre"][list(axes)]
    locs = [*points.z_loc[item], points.content_loc[item]]
    scales = [*points.z_scale[item], points.content_scale[item]]
    # The item may have been pinned before, in another plane.
    middle = (plane @ locs[0] - centre)[0]
    browser.wait_for(f"Math.abs(Math.max(...regions.xs[0]) + Math.min(...regions.xs[0]) - {2 * middle}) < 1e-2")
    curves = browser.run("return regions.xs.map((xs, k) => [[...xs], [...regions.ys[k]], regions.dash[k]])")
    assert [dash for _, _, dash in curves] == ["solid", "solid", "dashed"]
    for loc, scale, (xs, ys, _) in zip(locs, scales, curves, strict=True):
        away = np.array([xs, ys]).T - (plane @ loc - centre)
        precision = np.linalg.inv(plane * scale**2 @ plane.T)
        np.testing.assert_allclose(np.einsum("nk,kl,nl->n", away, precision, away), CHI2_2, rtol=1e-3)


def test_regions_of_one_dimension_are_ninety_percent_intervals(browser):
    points = digits(20, 1, content_loc=None, content_scale=None)
    browser.open(points)
    xs, ys = browser.run("return [[...regions.xs[0]], [...regions.ys[0]]]")
    assert np.ptp(xs) == pytest.approx(2 * 1.6449 * points.z_scale[0, 0, 0], rel=1e-3)
    assert np.ptp(ys) == 0
    browser.set("up", "2")  # the dimension itself, as across: the same interval, aslant
    across, up = browser.run("return [[...regions.xs[0]], [...regions.ys[0]]]")
    assert np.ptp(up) == pytest.approx(np.ptp(across), rel=1e-3)
    assert browser.errors() == []


def test_plane_of_content_places_points_at_its_loc(opened):
    browser, points = opened
    browser.set("space", "content")
    browser.set("across", "3")
    browser.set("up", "6")
    x, y = browser.run("return [[...dots.x], [...dots.y]]")
    np.testing.assert_allclose(x, points.content_loc[:, 1], atol=1e-5)
    np.testing.assert_allclose(y, points.content_loc[:, 4], atol=1e-5)
    assert browser.run("return [plot.below[0].axis_label, plot.left[0].axis_label]") == [
        "dimension 2 of content",
        "dimension 5 of content",
    ]
    # A length is the same number of pixels both ways.
    width, height, across, up = browser.run(
        "const {x_range: x, y_range: y, inner_width, inner_height} = plot;"
        "return [inner_width, inner_height, x.end - x.start, y.end - y.start]"
    )
    assert across / width == pytest.approx(up / height)


def test_filters_leave_the_points_that_they_should(opened):
    browser, points = opened

    def shown():
        drawn = browser.run("return [...Bokeh.index.find_one(plot.renderers[0]).all_indices]")
        assert browser.text("#count") == f"{len(drawn)} of 300 shown"
        return set(drawn)

    def only(where):
        return set(np.flatnonzero(where).tolist())

    def slide(number, low, high):
        browser.run(
            "const slider = model('filters').children[arguments[0]];"
            "slider.value = [arguments[1] ?? slider.start, arguments[2] ?? slider.end]",
            *(number, low, high),
        )

    stroke, k_hat = points.factors["stroke"], points.diagnostics["k_hat"]
    assert shown() == set(range(300))
    browser.run("model('filters').children[0].value = ['3', '8']")
    some = np.isin(points.labels, [3, 8])
    assert shown() == only(some)
    slide(1, None, 2.0)
    assert shown() == only(some & (stroke <= 2))
    slide(2, 0.0, None)  # which leaves out what has no k-hat, but not what has an infinite one
    assert shown() == only(some & (stroke <= 2) & (k_hat >= 0))
    browser.run("model('filters').children[0].value = []")
    slide(1, None, None)
    assert shown() == only(k_hat >= 0)
    slide(2, None, None)
    assert shown() == set(range(300))


def test_colours_follow_label_and_value_and_the_legend_says_which(opened):
    browser, points = opened
    fills = np.array(browser.run("return [...dots.fill]"))
    assert (fills == np.array(explorer.PALETTE)[points.labels]).all()
    assert browser.text("#legend").split() == [str(label) for label in range(10)]
    browser.set("colour", "1")
    assert browser.text("#legend").startswith("k_hat")
    fills, k_hat = np.array(browser.run("return [...dots.fill]")), points.diagnostics["k_hat"]
    assert set(fills[np.isnan(k_hat)]) == {"#c8c8c8"}
    assert (fills[np.nanargmin(k_hat)], fills[np.nanargmax(k_hat)]) == ("#440154", "#FDE724")
    browser.set("colour", "")
    assert browser.text("#legend") == ""


def test_text_from_outside_stays_text(browser):
    factor = {NASTY: np.arange(12.0)}
    points = digits(12, class_names=[f"{label} {NASTY}" for label in range(10)], factors=factor, diagnostics=factor)
    browser.open(points, title=NASTY)
    browser.driver.find_element("css selector", "summary").click()
    browser.run("model('filters').children[0].value = ['0', '1']")
    browser.move_to(browser.outermost()).click().perform()
    browser.set("colour", "0")
    browser.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert browser.run("return window.broken") is None
    assert browser.text("h1") == NASTY
    assert NASTY in browser.text("#legend")
    assert NASTY in browser.text("#pinned h2")
    # The one control that takes HTML shows the text, not its code.
    chips = browser.run(
        "const view = Bokeh.index.find_one(model('filters').children[0]);"
        "return [...view.shadow_el.querySelectorAll('.choices__list--multiple .choices__item')].map(e => e.textContent)"
    )
    assert [NASTY in chip for chip in chips] == [True, True]
    assert browser.errors() == []


@pytest.mark.parametrize(
    "points",
    [
        digits(2, 1, labels=None, factors={}, diagnostics={}, reconstructions=None),
        digits(30, 64, content_loc=np.zeros((30, 2)), content_scale=np.ones((30, 2)), z_scale=np.zeros((30, 2, 64))),
        digits(
            30,
            2,
            z_loc=np.zeros((30, 2, 2)),
            images=np.random.default_rng(0).uniform(size=(30, 2, 3, 8, 8)),
            reconstructions=None,
            content_loc=None,
            content_scale=None,
        ),
    ],
    ids=["least", "content_in_a_space_of_its_own", "collapsed_and_coloured"],
)
def test_pages_at_the_extremes_work(browser, points):
    browser.open(points)
    count = len(points.images)
    assert browser.text("#count") == f"{count} of {count} shown"
    for space in browser.run("return model('space').options"):
        browser.set("space", space)
        assert np.isfinite(browser.run("return [...dots.x, ...dots.y, plot.x_range.start, plot.y_range.end]")).all()
    browser.driver.find_element("css selector", "#pinned .near button").click()
    assert browser.errors() == []


def test_ten_thousand_points_are_panned_smoothly(browser):
    from selenium.webdriver import ActionChains

    browser.open(digits(10_000, 10))
    assert browser.text("#count") == "10000 of 10000 shown"
    start = browser.run(
        """window.frames = [];
        let last = performance.now();
        const tick = now => { frames.push(now - last); last = now; requestAnimationFrame(tick); };
        requestAnimationFrame(tick);
        window.moved = 0;
        plot.x_range.properties.start.change.connect(() => moved++);
        return plot.x_range.start"""
    )
    drag = ActionChains(browser.driver, duration=16)
    drag.move_to_element(browser.driver.find_element("id", "plot")).click_and_hold()
    for step in range(40):
        drag.move_by_offset(4, 3 if step % 2 else -3)
    drag.release().perform()
    frames, moved, end = browser.run("return [frames, moved, plot.x_range.start]")
    assert moved >= 20
    assert end < start
    assert np.median(frames) < 100  # milliseconds
    assert browser.errors() == []
