from __future__ import annotations

import io

import pytest

from msn_mm.utils.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_tells_rate_and_time_left() -> None:
    shown = Progress(12_820, "features", stream=Terminal())
    assert shown.line(0.0) == "features: 0 of 12,820 images, 0.0/s, ? left"
    shown.to(1282)
    assert shown.line(100.0) == "features: 1,282 of 12,820 images, 12.8/s, 15:00 left"
    shown.to(99_999)
    assert shown.line(10_000.0) == "features: 12,820 of 12,820 images, 1.3/s, 0:00 left"


@pytest.mark.parametrize(("stream", "label"), [(io.StringIO(), "features"), (Terminal(), None)])
def test_silence_in_a_pipe_and_without_a_label(stream: io.StringIO, label: str | None) -> None:
    with Progress(3, label, stream=stream) as shown:
        shown.to(3)
    assert stream.getvalue() == ""


def test_a_terminal_is_left_clean() -> None:
    stream = Terminal()
    with Progress(3, "features", stream=stream) as shown:
        shown.to(1)
    text = stream.getvalue()
    assert "features: 1 of 3 images" in text and text.endswith(" \r")
    assert len(text.strip("\r").split("\r")) == 2


@pytest.mark.parametrize("tty", [True, False])
def test_parts_of_the_work_are_told_to_a_terminal_alone(
    tty: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: tty)
    Progress.say("Attention maps")
    assert capsys.readouterr().err == ("Attention maps ...\n" if tty else "")
