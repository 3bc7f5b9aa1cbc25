from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from msn_mm.errors import UserError
from msn_mm.evaluation import draw_splits, save_splits, splits_from_files

CLASSES = ("ant", "bee", "cat")


def _set(sizes: tuple[int, ...] = (12, 15, 20)) -> tuple[list[str], np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return [f"train/{CLASSES[k]}/{CLASSES[k]}_{i}.png" for i, k in enumerate(labels)], labels


def _file(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _read(path: Path, names: list[str] | None = None) -> np.ndarray:
    known, labels = _set()
    (subsets,) = splits_from_files([path], names or known, labels, CLASSES).values()
    return subsets[0]


def _error(path: Path, names: list[str] | None = None) -> str:
    with pytest.raises(UserError) as raised:
        _read(path, names)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_saved_splits_come_back(tmp_path: Path) -> None:
    names, labels = _set()
    drawn = draw_splits(labels, (1, 2, 5), splits=12, seed=4)
    paths = save_splits(tmp_path / "splits", drawn, names)
    assert [path.name for path in paths[:2]] == ["1_00.txt", "1_01.txt"]
    again = splits_from_files(paths, names, labels, CLASSES)
    assert list(again) == list(drawn)
    for column, subsets in drawn.items():
        assert len(subsets) == len(again[column])
        for one, other in zip(subsets, again[column], strict=True):
            assert other.dtype == np.int64
            assert np.array_equal(one, other)
    # the order of a shell's pattern serves as well
    globbed = splits_from_files(sorted(paths), names, labels)
    assert list(globbed) == ["1", "2", "5"]
    assert all(map(np.array_equal, globbed["2"], drawn["2"]))


def test_saved_files_hold_base_names_unless_two_images_share_one(tmp_path: Path) -> None:
    names, labels = _set((2, 2, 2))
    drawn = draw_splits(labels, (1,), splits=1)
    (path,) = save_splits(tmp_path, drawn, names)
    assert path.name == "1_00.txt"
    text = path.read_text()
    assert text == "".join(f"{names[i].rpartition('/')[2]}\n" for i in drawn["1"][0])
    folders = ["a/0.png", "a/1.png", "b/0.png", "b/1.png", "c/0.png", "c/1.png"]
    (path,) = save_splits(tmp_path, drawn, folders)
    assert path.read_text().split() == [folders[i] for i in drawn["1"][0]]
    assert np.array_equal(splits_from_files([path], folders, labels)["1"][0], drawn["1"][0])


def test_a_fraction_comes_back_under_its_number_of_images(tmp_path: Path) -> None:
    names, labels = _set((10, 20, 40))
    drawn = draw_splits(labels, (), (0.1, 0.5), splits=2)
    paths = save_splits(tmp_path, drawn, names)
    assert [path.name for path in paths] == [
        f"{column}_0{k}.txt" for column in ("10%", "50%") for k in (0, 1)
    ]
    again = splits_from_files(paths[::-1], names, labels)
    assert list(again) == ["7 images", "35 images"]
    # splits keep the order of their files
    assert all(map(np.array_equal, again["35 images"], drawn["50%"][::-1]))
    (path,) = save_splits(tmp_path, {"7 images": again["7 images"][:1]}, names)
    assert path.name == "7-images_00.txt"


def test_names_that_cannot_be_a_line(tmp_path: Path) -> None:
    for name in ("a\nb.png", "a.png "):
        with pytest.raises(UserError, match="cannot be a line"):
            save_splits(tmp_path, {"1": [np.array([0])]}, [name])


@pytest.mark.parametrize(
    "text",
    [
        "ant_0.png\nbee_12.png\ncat_27.png\n",
        "ant_0.png\r\nbee_12.png\r\ncat_27.png\r\n",
        "\n\ncat_27.png  \n\tant_0.png\t\n \nbee_12.png",
        "train/ant/ant_0.png\nbee/bee_12.png\ncat_27.png\n",
        b"\xef\xbb\xbfant_0.png\nbee_12.png\ncat_27.png\n",
    ],
)
def test_what_a_line_may_look_like(tmp_path: Path, text: str | bytes) -> None:
    assert _read(_file(tmp_path, text)).tolist() == [0, 12, 27]


def test_a_whole_name_is_not_mistaken_for_the_end_of_another(tmp_path: Path) -> None:
    names = ["x/0.png", "0.png", *(f"{i}.png" for i in range(2, 47))]
    assert _read(_file(tmp_path, "0.png\n12.png\n46.png\n"), names).tolist() == [1, 12, 46]


def test_names_without_folders_and_names_that_look_like_numbers(tmp_path: Path) -> None:
    names = [f"{i:03d}" for i in range(47)]
    assert _read(_file(tmp_path, "000\n012\n046\n"), names).tolist() == [0, 12, 46]
    assert "line 2: '12' is not in" in _error(_file(tmp_path, "000\n12\n046\n"), names)


def test_a_missing_image_is_named_with_its_line(tmp_path: Path) -> None:
    message = _error(_file(tmp_path, "ant_0.png\n\nbee_99.png\n"))
    assert "line 3: 'bee_99.png' is not in the data set" in message
    assert "'train/ant/ant_0.png'" in message
    # the right base name in another folder is another image
    assert "'dog/ant_0.png' is not in" in _error(_file(tmp_path, "dog/ant_0.png\n"))
    assert "'t/ant_0.png' is not in" in _error(_file(tmp_path, "t/ant_0.png\n"))
    assert len(_error(_file(tmp_path, "x" * 5000))) < 500
    assert r"'a\x00b'" in _error(_file(tmp_path, "a\0b"))


def test_an_ambiguous_name(tmp_path: Path) -> None:
    names = [f"{folder}/{i}.png" for folder in ("a", "b") for i in range(23)] + ["c/23.png"]
    message = _error(_file(tmp_path, "a/1.png\n5.png\n"), names)
    assert "line 2: '5.png' may be 'a/5.png' or 'b/5.png'" in message
    assert np.array_equal(_read(_file(tmp_path, "a/5.png\na/15.png\n23.png\n"), names), [5, 15, 46])


def test_an_image_named_twice(tmp_path: Path) -> None:
    message = _error(_file(tmp_path, "ant_0.png\nbee_12.png\n\ntrain/ant/ant_0.png\n"))
    assert re.search("line 4: .*second time, first in line 1; remove", message)


def test_a_class_without_an_image(tmp_path: Path) -> None:
    assert "no image of class 'bee'" in _error(_file(tmp_path, "ant_0.png\ncat_27.png\n"))


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "is empty" in _error(_file(tmp_path, ""))
    assert "is empty" in _error(_file(tmp_path, "\n \r\n"))
    assert "is not text" in _error(_file(tmp_path, b"\x89PNG\xff\xfe"))
    assert "does not exist; check" in _error(tmp_path / "none.txt")
    assert "cannot be read" in _error(tmp_path)


def test_a_file_given_twice(tmp_path: Path) -> None:
    path = _file(tmp_path, "ant_0.png\nbee_12.png\ncat_27.png\n")
    names, labels = _set()
    with pytest.raises(UserError, match="given twice"):
        splits_from_files([path, tmp_path / "." / path.name], names, labels)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="at least one"):
        splits_from_files([], ["a"], np.array([0]))
    with pytest.raises(ValueError, match="do not fit"):
        splits_from_files(["a.txt"], ["a"], np.array([0, 1]))


@pytest.mark.parametrize("name", ["im\udce9.png", "\U0001f431\udce9.png"])
def test_a_name_that_is_not_utf_8_is_told_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not UTF-8 and cannot be a line"):
        save_splits(tmp_path, {"1": [np.array([0])]}, [name])
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_call_go_wherever_it_was_called_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, labels = _set()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    earlier = save_splits("o/splits", draw_splits(labels, (1,), splits=3), names)
    own = tmp_path / "o/splits/1_07.txt"
    own.write_text("mine\n")
    monkeypatch.chdir(tmp_path / "sub")
    save_splits("../o/splits", draw_splits(labels, (1,), splits=1), names, map(str, earlier))
    assert sorted(path.name for path in own.parent.iterdir()) == ["1_00.txt", "1_07.txt"]
