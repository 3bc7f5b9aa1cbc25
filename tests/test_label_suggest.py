"""``msn-mm label-suggest``: what it writes, what is typed into it, and what fit makes of that."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_digits
from PIL import Image

from msn_mm.__main__ import main
from msn_mm.datasets import Digits
from msn_mm.errors import UserError
from msn_mm.few_labels.labels import read_labels
from msn_mm.few_labels.suggestion_files import COLUMNS

CHROMIUM = "/usr/bin/chromium"
# A spreadsheet computes what begins with these, a page runs what is a tag, and blanks get lost.
HOSTILE = (
    *("=cmd|' -C calc'!A0.png", "+1.png", "-1.png", "@sum(1).png", " blank.png", "\ttab.png"),
    *('"><img src=x onerror=alert(1)>.png', "<!--<script>alert(1)<.png", "a, 'b' \"c\".png"),
    *("line\nbreak.png", "cr\rhere.png", "&lt;&#61;.png", "ünïcode-日本.png", "sub/=1+1.png"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of an untrained encoder, digits as files, and files that are none."""
    root = tmp_path_factory.mktemp("suggest")
    tiny_digits().dump(root / "tiny.py")
    digits = Digits(split="pretrain")
    names = [*HOSTILE, *(f"{i:03d}.png" for i in range(60))]
    (root / "images" / "sub").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(digits.get_data_info(number)["img"][..., 0]).save(root / "images" / name)
    shutil.copy(root / "images" / "000.png", root / "images" / "copy of 000.png")
    (root / "images" / "broken.png").write_bytes((root / "images" / "001.png").read_bytes()[:80])
    (root / "images" / "nowhere.png").symlink_to("gone.png")
    return root


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def suggest(out: str, *words: str) -> list[dict[str, str]]:
    encoder = ("--checkpoint", "none", "--config", "tiny.py", "--workers", "0")
    assert main(["label-suggest", "images", *encoder, "--out", out, *words]) == 0
    return rows_of(Path(out, "suggestions.csv"))


def rows_of(file: Path) -> list[dict[str, str]]:
    # as fit reads it, and any spreadsheet
    return list(csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))


def fill(rows: list[dict[str, str]], file: str, count: int) -> None:
    with Path(file).open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        for k, row in enumerate(rows):
            writer.writerow({**row, "label": ("one", "two")[k % 2] if k < count else ""})


def test_all_images_but_copies_and_damaged_ones_can_be_suggested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = suggest("all", "--number", "500")
    names = [os.path.normpath(row["path"]) for row in rows]
    files = {path.relative_to("images").as_posix() for path in Path("images").rglob("*.png")}
    left_out = files - set(names)
    # of the two copies the first name is kept
    assert left_out == {"broken.png", "nowhere.png", "copy of 000.png"}
    assert len(names) == len(set(names)) == len(files) - 3
    assert [row["rank"] for row in rows] == [str(k + 1) for k in range(len(rows))]
    assert all(row["label"] == "" and row["reason"] for row in rows)
    # nothing that a spreadsheet would compute or strip, and all lead to their files
    assert not [row["path"] for row in rows if row["path"][0] in "=+-@\t\r\n "]
    assert all(Path("images", row["path"]).is_file() for row in rows)
    said = capsys.readouterr().out
    assert "2 files cannot be read" in said and "  nowhere.png: no such file" in said
    assert "look to the encoder exactly like another image: 1" in said
    results = json.loads(Path("all/results.json").read_text())
    assert results["tool"] == "msn-mm label-suggest"
    assert results["metrics"] == {
        "suggested": len(rows),
        "images": len(files),
        "labelled": 0,
        "copies": 1,
        "unreadable": 2,
    }


@pytest.mark.parametrize("method", ["typical", "kmeans++"])
def test_the_same_seed_suggests_the_same(method: str) -> None:
    words = ("--number", "9", "--method", method)
    first = suggest("one", *words, "--seed", "3")
    # the features of the first time come from the cache
    assert first == suggest("one", *words, "--seed", "3", "--batch-size", "7", "--no-cache")
    assert first != suggest("one", *words, "--seed", "4")


def test_fit_takes_the_file_and_labels_cover_their_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = suggest("some", "--number", "20")
    fit = ["fit", "some/suggestions.csv", "--images", "images", "--checkpoint", "none"]
    fit += ["--config", "tiny.py", "--workers", "0", "--lambd", "0.01", "--out", "some/c.pth"]
    with pytest.raises(UserError, match=r"has no labelled image; fill the column label"):
        main(fit)
    fill(rows, "some/suggestions.csv", 14)
    capsys.readouterr()
    assert main(fit) == 0
    said = capsys.readouterr().out
    assert "14 labelled images of 2 classes" in said
    assert "6 rows of suggestions.csv have no label and are passed over" in said
    # what was typed in is not written over
    with pytest.raises(UserError, match=r"suggestions\.csv holds 14 labels that would be lost"):
        suggest("some", "--number", "5")
    again = suggest("some", "--number", "5", "--labels", "some/suggestions.csv")
    kept = {row["path"]: row["label"] for row in again if row["label"]}
    assert kept == {row["path"]: ("one", "two")[k % 2] for k, row in enumerate(rows[:14])}
    assert not {row["path"] for row in again[:5]} & set(kept)
    assert [row["rank"] for row in again] == ["1", "2", "3", "4", "5", *[""] * 14]
    assert read_labels("some/suggestions.csv", "images").names == list(kept)


def test_nothing_of_a_csv_that_is_replaced_is_lost() -> None:
    first = suggest("own", "--number", "6")
    file = Path("own/suggestions.csv")
    a, b, c = (row["path"] for row in first[:3])
    copy = "copy of 000.png"
    rows = [
        ("note", "path", "label", "reason", "rank", "note"),
        ("sharp", a, "one", "x", "1", "mine"),
        ("", "000.png", "two", "x", "", ""),
        ("the same", copy, "two", "x", "", "again"),
        ("later", b, "", "x", "2", ""),  # suggested again
        ("elsewhere", "gone.png", "", "x", "3", "kept"),
        ("", c, "", "x", "4", ""),
        ("long", "001.png", "one", "x", "", "", "too", "far"),
    ]
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(rows)
    Path("other.csv").write_text("path,label\n002.png,one\n")
    with pytest.raises(UserError, match=r"holds 4 labels that would be lost; give --labels"):
        suggest("own")
    with pytest.raises(UserError, match=r"holds 4 labels that would be lost; give --labels"):
        suggest("own", "--labels", "other.csv")
    suggest("own", "--number", "500", "--labels", "own/suggestions.csv")
    names, *told = csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline=""))
    assert names == ["path", "label", "rank", "reason", "note", "note", "", ""]
    by_path = {row[0]: row for row in told}
    assert len(by_path) == len(told)
    assert by_path[a] == [a, "one", "", "labelled before", "sharp", "mine", "", ""]
    assert by_path["000.png"][1] == by_path[copy][1] == "two"
    assert by_path[copy][4:] == ["the same", "again", "", ""]
    assert by_path["001.png"][4:] == ["long", "", "too", "far"]
    assert by_path[b][1] == "" and by_path[b][2] and by_path[b][4:] == ["later", "", "", ""]
    assert by_path["gone.png"] == ["gone.png", "", "", "no label yet", "elsewhere", "kept", "", ""]
    assert by_path[c][4:] == [""] * 4
    # the page's download is the same table
    page = Path("own/suggestions.html").read_text()
    assert "elsewhere" in page and read_labels(file, "images").classes == ("one", "two")
    # into another CSV go the rows with labels, and what is noted of a suggested image
    more = suggest("own more", "--number", "500", "--labels", "own/suggestions.csv")
    assert "gone.png" not in {row["path"] for row in more}
    assert {row["path"] for row in more if row["label"]} == {a, "000.png", copy, "001.png"}


def test_notes_without_a_label_are_not_written_over() -> None:
    Path("noted").mkdir()
    Path("noted/suggestions.csv").write_text("path,label,note\n001.png,,blurred\n002.png,,\n")
    with pytest.raises(UserError, match=r"holds notes in 1 rows that would be lost"):
        suggest("noted", "--number", "2")


def test_labels_of_a_folder_elsewhere_count_too() -> None:
    whole = {row["path"] for row in suggest("whole", "--number", "500")}
    Path("sorted/zero").mkdir(parents=True)
    shutil.copy("images/000.png", "sorted/zero/a.png")
    rows = suggest("more", "--number", "500", "--labels", "sorted")
    assert {row["path"] for row in rows[:-1]} == whole - {"000.png"}
    assert rows[-1]["label"] == "zero" and Path(rows[-1]["path"]).samefile("sorted/zero/a.png")


def test_nothing_left_to_suggest_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no")
    words = ("--checkpoint", "none", "--config", "tiny.py", "--workers", "0", "--no-cache")
    with pytest.raises(UserError, match=r"left to suggest: 'bad\.png': not an image"):
        main(["label-suggest", str(tmp_path), *words, "--out", str(tmp_path / "out")])


def test_a_name_that_no_csv_can_hold_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        shutil.copy("images/000.png", os.fsdecode(raw))
    except OSError:
        pytest.skip("a file system of names in UTF-8")
    shutil.copy("images/001.png", tmp_path / "b.png")
    words = ("--checkpoint", "none", "--config", "tiny.py", "--workers", "0", "--no-cache")
    assert main(["label-suggest", str(tmp_path), *words, "--out", str(tmp_path / "out")]) == 0
    assert [row["path"] for row in rows_of(tmp_path / "out/suggestions.csv")] == ["b.png"]
    assert "its name is not UTF-8" in capsys.readouterr().out


@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None or not Path(CHROMIUM).exists(),
    reason="needs playwright and Chromium",
)
def test_labels_typed_into_the_page_are_what_fit_reads() -> None:
    from playwright.sync_api import sync_playwright

    rows = suggest("page", "--number", "500")
    told: list[str] = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, accept_downloads=True)
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.accept()))
        page.on("request", lambda request: told.append(request.url))
        address = Path("page/suggestions.html").resolve().as_uri()
        page.goto(address)
        fields = page.locator(".images input")
        assert fields.count() == len(rows)
        for k in range(12):
            fields.nth(k).fill((" six, 'or' \"b\"", "<b>nine</b>")[k % 2])
            page.keyboard.press("Enter")
        assert page.locator("#count").inner_text() == f"12 of {len(rows)} labelled"
        assert page.locator("#labels option").count() == 2
        sizes = "[document.documentElement.scrollWidth, document.images[0].naturalWidth]"
        assert page.evaluate(sizes) == [390, 32]
        colours = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert colours == {"rgb(255, 255, 255)", "rgb(20, 23, 27)"}
        with page.expect_download() as waiting:
            page.locator("#download").click()
        waiting.value.save_as("page/typed.csv")
        assert waiting.value.suggested_filename == "suggestions.csv"
        browser.close()
    # no message, no dialog, no request but for the page itself and what lies in it
    assert [text for text in told if not text.startswith(("data:", "blob:"))] == [address]
    typed = rows_of(Path("page/typed.csv"))
    labels = ["six, 'or' \"b\"", "<b>nine</b>"] * 6
    assert typed == [
        {**row, "label": label}
        for row, label in zip(rows, [*labels, *[""] * (len(rows) - 12)], strict=True)
    ]
    found = read_labels("page/typed.csv", "images")
    assert found.classes == ("<b>nine</b>", "six, 'or' \"b\"") and len(found.names) == 12
    assert np.bincount(found.labels).tolist() == [6, 6]
    fit = ["fit", "page/typed.csv", "--images", "images", "--checkpoint", "none", "--lambd", "1"]
    fit += ["--config", "tiny.py", "--workers", "0", "--out", "page/c.pth"]
    assert main(fit) == 0
