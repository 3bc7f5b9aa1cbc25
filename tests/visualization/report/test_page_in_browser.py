"""The page as a reader has it: in a real browser, headless, without a network."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.visualization.report.trained import report

playwright = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    assert report(str(trained), "--out", str(out)) == 0
    return out / "report.html"


class Opened:
    """A page, and all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        context.setdefault("viewport", {"width": 1280, "height": 900})
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.own = path.as_uri()

    def check(self) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("data:")] == [self.own]

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    with Opened(browser, page_file) as one:
        yield one
        one.check()


def test_tables_sort_by_a_click_and_by_a_key(opened: Opened) -> None:
    table = opened.page.locator("#troubles table").first
    assert table.locator("tbody tr").count() == 2  # the training was resumed once
    head = table.locator("th[scope=col]").nth(1)

    def column() -> list[int]:
        cells = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
        return [int(cell) for cell in cells]

    before = column()
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and column() == sorted(before)
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column() == sorted(before, reverse=True) and column() != sorted(before)


def test_a_chart_reads_out_its_values(opened: Opened, trained: Path) -> None:
    figure = opened.page.locator("figure.chart", has_text="Loss").first
    figure.scroll_into_view_if_needed()
    svg = figure.locator("svg.plot")
    box = svg.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2)
    lines = [
        json.loads(line)
        for log in sorted(trained.glob("*/vis_data/scalars.json"))
        for line in log.read_text().splitlines()
    ]
    last = [line for line in lines if "iter" in line][-1]
    assert figure.locator(".at").inner_text() == "epoch 3"
    read = figure.locator(".legend output").first.inner_text()
    assert float(read) == pytest.approx(last["loss"], rel=1e-3)
    svg.focus()
    opened.page.keyboard.press("ArrowLeft")
    assert figure.locator(".at").inner_text() != "epoch 3"


def test_a_point_of_the_map_shows_its_image(opened: Opened, trained: Path) -> None:
    chart = opened.page.locator("#map .map")
    chart.scroll_into_view_if_needed()
    tip = chart.locator(".tip")
    assert not tip.is_visible() and chart.locator("circle").count() == 60
    chart.locator("circle").nth(7).hover(force=True)
    assert tip.is_visible()
    shown = chart.locator("circle.on").first.evaluate(
        "dot => [...dot.parentNode.children].indexOf(dot)"
    )
    style = tip.locator(".thumb").evaluate(
        "e => [getComputedStyle(e).backgroundImage.slice(0, 20), e.style.backgroundPosition]"
    )
    columns = json.loads(chart.locator("script").inner_text())["columns"]
    assert style[0].startswith('url("data:image/webp')
    assert style[1] == f"{-48 * (shown % columns)}px {-48 * (shown // columns)}px"
    assert tip.locator(".words").inner_text().endswith(f": {shown:02d}")
    chart.locator("svg").focus()
    opened.page.keyboard.press("ArrowRight")
    assert tip.locator(".words").inner_text().endswith(f": {shown + 1:02d}")
    button = opened.page.locator("#map .classes button").first
    button.click()
    assert 0 < chart.locator("circle:not(.off)").count() < 60


def test_the_data_can_be_saved(opened: Opened) -> None:
    for name, least in (("curves.csv", 20), ("map.csv", 61), ("prototypes.csv", 9)):
        with opened.page.expect_download() as waiting:
            opened.page.locator(f"a[download='{name}']").click()
        assert waiting.value.suggested_filename == name
        rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text())))
        assert len(rows) >= least and len({len(row) for row in rows}) == 1
    # every figure stands in a section with data to save
    sections = opened.page.locator("main section").all()
    for section in sections:
        if section.locator("figure, table, svg").count():
            assert section.locator("a[download]").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, page_file: Path, scheme: str) -> None:
    with Opened(browser, page_file, color_scheme=scheme) as one:
        found = one.page.evaluate(
            """() => {
              const style = getComputedStyle(document.documentElement);
              const names = ["--page", "--panel", "--text", "--faint", "--accent", "--warn",
                ...Array.from({ length: 10 }, (_, i) => `--s${i}`)];
              return Object.fromEntries(names.map((n) => [n, style.getPropertyValue(n).trim()]));
            }"""
        )
        ground = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
        one.check()
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    for name in ("--text", "--faint", "--accent", "--warn"):  # WCAG 2.1, 1.4.3
        assert min(contrast(found[name], found[k]) for k in ("--page", "--panel")) >= 4.5, name
    for number in range(10):  # 1.4.11, lines of a chart
        assert contrast(found[f"--s{number}"], found["--page"]) >= 3.0, number


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours ``#rrggbb`` (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_phone_does_not_scroll_sideways(browser: Any, page_file: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with Opened(browser, page_file, **phone) as one:
        for summary in one.page.locator("summary").all():
            summary.tap()
        assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
        picture = one.page.locator("#attention .maps img").first.bounding_box()
        assert picture["width"] == pytest.approx(picture["height"], abs=1)
        dot = one.page.locator("#map circle").nth(3)
        dot.scroll_into_view_if_needed()
        dot.tap(force=True)
        assert one.page.locator("#map .tip").is_visible()
        one.check()


def test_it_prints(opened: Opened) -> None:
    assert opened.page.pdf(format="A4")[:5] == b"%PDF-"
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("nav").is_visible()
    assert opened.page.locator("figure.chart").first.is_visible()


def test_names_from_outside_stay_text(
    browser: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory, images and a log that hold markup: none of it runs, all of it is read."""
    bad = "<img src=x onerror=window.hacked=1>"
    work_dir = tmp_path / f"{bad}&amp;"
    shutil.copytree(trained, work_dir)
    log = next(work_dir.glob("*/*.log"))
    line = f"2026/01/01 00:00:00 - mmengine - WARNING - unreadable image /a/{bad}.png: cut off; "
    log.write_text(log.read_text() + line + "another takes its place\n")
    folder = tmp_path / "images" / "a<"
    folder.mkdir(parents=True)
    # with its folder's name this ends the element that holds the map's data
    name = f"script>{bad}.png"
    for number, file in enumerate((name, "b'\".png", "c.png")):
        Image.new("L", (32, 32), 40 * number).save(folder / file)
    out = tmp_path / "page"
    words = ["--images", str(tmp_path / "images"), "--out", str(out)]
    assert report(str(work_dir), *words) == 0
    with Opened(browser, out / "report.html") as one:
        assert one.page.evaluate("window.hacked") is None
        assert one.page.locator("img[src=x]").count() == 0
        assert one.page.title() == f"Training report: {bad}&amp;"
        assert bad in one.page.locator("#troubles").inner_text()
        one.page.locator("#map svg").focus()
        one.page.keyboard.press("ArrowLeft")  # from the end
        assert one.page.locator("#map .tip .words").inner_text() == f"a</{name}"
        one.check()


def test_several_trainings_make_a_comparison(browser: Any, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    config = other / "msn_digits.py"
    config.write_text(config.read_text().replace("anchor=0.15", "anchor=0.5"))
    assert report(str(trained), str(other), "--out", str(tmp_path / "page")) == 0
    with Opened(browser, tmp_path / "page" / "report.html") as one:
        rows = one.page.locator("#differences tbody tr").all_inner_texts()
        assert [row.split() for row in rows] == [["model.mask_ratio.anchor", "0.15", "0.5"]]
        loss = one.page.locator("#curves figure.chart").first
        assert loss.locator(".legend span").all_inner_texts() == ["digits", "other"]
        names = one.page.locator("#evaluations table").first.locator("tbody th").all_inner_texts()
        assert names == ["digits", "other"]
        assert one.page.locator("#map svg").count() == 2
        one.check()
