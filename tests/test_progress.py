"""Lines of progress without a terminal: the first numbers at once, and none of them twice."""

from __future__ import annotations

import pytest

from d2v import progress
from d2v.progress import Progress


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_numbers_are_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", 200) as shown:
        for update in range(1, 201):
            clock.now_s += 3.0
            shown.advance(1, f"loss {update}" if update in (10, 50, 200) else None)
    said = lines(capsys)
    assert [line for line in said if "loss 10" in line] == ["train 10/200 loss 10"], "at once"
    assert [line for line in said if "loss 50" in line] == ["train 50/200 loss 50"]
    assert said[-1] == "train 200/200 loss 200"
    assert len(said) == len(set(said)) < 20
    assert any("eta" in line for line in said)


def test_work_without_numbers_has_a_line_an_interval_and_an_eta(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("evaluate", 100) as shown:
        for _ in range(10):
            clock.now_s += 6.0
            shown.advance(10)
    assert lines(capsys) == [
        "evaluate 20/100 eta 0m48s",
        "evaluate 40/100 eta 0m36s",
        "evaluate 60/100 eta 0m24s",
        "evaluate 80/100 eta 0m12s",
        "evaluate 100/100",
    ]


def test_a_quick_work_says_its_end_alone(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("prepare", 3) as shown:
        shown.advance(3)
    assert lines(capsys) == ["prepare 3/3"]
