"""ImageFolder: what counts as an image, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from msn_mm.datasets import ImageFolder
from msn_mm.errors import UserError


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, format="PNG")


def names(root: Path, **options: str) -> list[str]:
    data = ImageFolder(root, **options)
    paths = [data.get_data_info(i)["img_path"] for i in range(len(data))]
    return [str(Path(path).relative_to(root)) for path in paths]


def test_nested_mixed_and_sorted(tmp_path: Path) -> None:
    fill(tmp_path, "b/z.JPG", "b/a.png", "a/x/y/q.Tiff", "c.webp", "a/1.gif", "a/2.ppm", "d.bmp")
    fill(tmp_path, ".hidden/a.png", "a/.thumb.png")
    (tmp_path / "notes.txt").write_text("no image")
    want = ["a/1.gif", "a/2.ppm", "a/x/y/q.Tiff", "b/a.png", "b/z.JPG", "c.webp", "d.bmp"]
    assert names(tmp_path) == want
    assert "gt_label" not in ImageFolder(tmp_path).get_data_info(0)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/a.png", "root/b/c.png")
    root = tmp_path / "root"
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "up").symlink_to(root)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere")
    assert names(root) == ["b/c.png", "linked/a.png"]


def test_a_broken_link_is_listed_so_that_it_is_reported(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    assert names(tmp_path) == ["a.png", "b.png"]


def test_labels_are_first_level_folders(tmp_path: Path) -> None:
    fill(tmp_path, "zebra/1.png", "ape/deep/2.png", "ape/1.png")
    data = ImageFolder(tmp_path, labels="folder")
    assert data.metainfo["classes"] == ("ape", "zebra")
    assert [data.get_data_info(i)["gt_label"] for i in range(3)] == [0, 0, 1]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone does not exist; set data_root"):
        ImageFolder(tmp_path / "gone")
    fill(tmp_path, "a.png")
    with pytest.raises(UserError, match=r"a\.png is a file; give the folder"):
        ImageFolder(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no image under .*empty; looked .* \.jpg .*\.tiff"):
        ImageFolder(tmp_path / "empty")
    with pytest.raises(UserError, match="lies in no class folder"):
        ImageFolder(tmp_path, labels="folder")
    (tmp_path / "a.png").unlink()
    fill(tmp_path, "cats/1.png")
    with pytest.raises(UserError, match=r"class folder .*empty holds no image"):
        ImageFolder(tmp_path, labels="folder")
    with pytest.raises(ValueError, match="none or folder"):
        ImageFolder(tmp_path, labels="files")  # type: ignore[arg-type]


@pytest.mark.parametrize("root", [".", "./", "pets/", "pets"])
def test_labels_do_not_depend_on_how_the_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    fill(tmp_path / "pets", "ape/1.png", "zebra/1.png")
    monkeypatch.chdir(tmp_path / ("pets" if root[0] == "." else "."))
    data = ImageFolder(root, labels="folder")
    assert data.metainfo["classes"] == ("ape", "zebra")
    assert [data.get_data_info(i)["gt_label"] for i in range(2)] == [0, 1]
