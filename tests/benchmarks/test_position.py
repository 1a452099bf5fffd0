"""The plot of position in the targets is drawn from what runs logged."""

from pathlib import Path

from benchmarks import position
from d2v.training.history import History


def make_run(folder: Path) -> Path:
    history = History()
    for update, share in ((1, None), (2, 0.8), (4, 0.2)):
        values = {} if share is None else {"train/target_position_share": share, "train/predicted_beyond_position": 0.1}
        history.add(update, {"train/loss": 1.0} | values, folder / "history.csv")
    return folder


def test_rows_without_the_metric_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert position.curves(run, "train/target_position_share") == ([2, 4], [0.8, 0.2])


def test_a_label_may_hold_an_equals_sign(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    position.main([str(tmp_path / "plots" / "position.png"), f"std=0.02={runs[0]},{runs[1]}"])
    assert (tmp_path / "plots" / "position.png").stat().st_size > 10_000
