"""Labels as users write them, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from msn_mm.errors import UserError
from msn_mm.few_labels.labels import read_labels


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for k in range(4):
        (tmp_path / "images" / "deep").mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * k).save(tmp_path / "images" / "deep" / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, encoding: str = "utf-8") -> str:
    Path("labels.csv").write_text(text, encoding=encoding)
    return "labels.csv"


def test_a_csv_of_a_spreadsheet(place: Path) -> None:
    text = 'score, label ,path\n1,"dog, small",deep/1.png\n2,cat,deep/0.png\n3,,deep/2.png\n'
    found = read_labels(write(text.replace("\n", "\r\n"), "utf-8-sig"), "images")
    assert found.classes == ("cat", "dog, small")
    assert (found.names, found.labels) == (["deep/1.png", "deep/0.png"], [1, 0])
    assert [Path(path) for path in found.paths] == [Path(f"images/deep/{k}.png") for k in (1, 0)]
    assert found.notes == ["1 rows of labels.csv have no label and are passed over"]


def test_paths_begin_where_the_csv_is(place: Path) -> None:
    whole = place / "images" / "deep" / "2.png"
    Path("images/labels.csv").write_text(f"path,label\ndeep/0.png,a\n{whole},b\n")
    assert len(read_labels("images/labels.csv").paths) == 2


def test_copies_of_an_image_count_once(place: Path) -> None:
    (place / "images" / "copy.png").write_bytes((place / "images/deep/0.png").read_bytes())
    rows = "path,label\ndeep/0.png,a\ncopy.png,a\ndeep/0.png,a\ndeep/1.png,b\n"
    found = read_labels(write(rows), "images")
    assert found.names == ["deep/0.png", "deep/1.png"] and "2 copies" in found.notes[0]
    with pytest.raises(UserError, match=r"'deep/0\.png' is labelled 'a' and 'copy\.png', the same"):
        read_labels(write("path,label\ndeep/0.png,a\ncopy.png,b\n"), "images")


def test_a_folder_a_class(place: Path) -> None:
    for k, name in enumerate(("a", "a", "b")):
        Path("sorted", name).mkdir(parents=True, exist_ok=True)
        Path(f"images/deep/{k}.png").rename(f"sorted/{name}/{k}.png")
    found = read_labels("sorted")
    assert (found.names, found.labels) == (["a/0.png", "a/1.png", "b/2.png"], [0, 0, 1])
    with pytest.raises(UserError, match="--images belongs to a CSV"):
        from msn_mm.few_labels.labels import check_labels

        check_labels("sorted", "images")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "file,class\nx,y\n",
            "must begin with the line 'path,label'; it begins with 'file, cl",
        ),
        ("", "it begins with 'nothing'"),
        (
            "path,label,label\ndeep/0.png,a,b\n",
            "has 2 columns 'label'; keep one, or rename the oth",
        ),
        ("path, path ,label\ndeep/0.png,x,a\n", "has 2 columns 'path'; keep one"),
        ("path,label\ngone.png,a\n", r"line 2: no image 'images/gone\.png'; correct the path"),
        (f"path,label\n{'x' * 300},a\n", "line 2: no image"),
        ("path,label\n,a\n", "line 2: a label 'a' without a path"),
        ("path,label\ndeep/0.png\n", "has no labelled image"),
        ("path,label\ndeep/0.png,a\ndeep/1.png,a\n", "all 2 labelled images .* are 'a'"),
        ('path,label\n"deep/0.png,a\n', "cannot be read as CSV"),
    ],
)
def test_a_mistake_is_named(place: Path, text: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        read_labels(write(text), "images")
    assert len(str(caught.value).splitlines()) == 1


def test_another_encoding_is_named(place: Path) -> None:
    with pytest.raises(UserError, match="save it as 'CSV UTF-8'"):
        read_labels(write("path,label\ndeep/0.png,Möwe\n", "latin-1"), "images")
