from __future__ import annotations

from tocsin.models.training import Figures, Report
from tocsin.pipelines.crossfit import Step
from tocsin.pipelines.epochs import Epochs, mean_epoch


def report(panel: int, phase: str, epoch: int, elbo: float, warnings: tuple[str, ...] = ()) -> Report:
    held_out = Figures(elbo - 1, 1 - elbo, 0.0, 4) if phase == "rehearsal" else None
    return Report(panel, phase, epoch, 2, 10 * epoch, Figures(elbo, -elbo, 0.0, panel), held_out, warnings)


def heard(*reports: Report, stage: str = "final") -> Epochs:
    epochs = Epochs()
    for i, one in enumerate(reports):
        epochs.hear(Step(stage, i, len(reports), one))
    return epochs


def test_history_is_the_mean_over_panels_rehearsal_first() -> None:
    history = heard(
        report(0, "final", 1, -1.0),
        report(0, "rehearsal", 1, -4.0),
        report(2, "rehearsal", 1, -2.0),
        report(0, "rehearsal", 2, -3.0),
    ).history()
    assert [(row.phase, row.epoch, row.panels) for row in history] == [
        ("rehearsal", 1, 2),
        ("rehearsal", 2, 1),
        ("final", 1, 1),
    ]
    plain = history[0].plain()
    assert plain["train_elbo"] == -3.0
    assert plain["held_out_elbo"] == -4.0
    assert plain["train_active_units"] == 1
    assert history[2].plain()["held_out_elbo"] is None


def test_folds_are_not_part_of_it() -> None:
    epochs = heard(report(0, "final", 1, -1.0, ("overfitting: x",)), stage="fold")
    assert epochs.history() == ()
    assert epochs.warnings() == ()


def test_each_warning_once_with_how_many_panels_gave_it() -> None:
    epochs = heard(
        report(0, "rehearsal", 2, -1.0, ("overfitting: lowest after 40 steps",)),
        report(1, "rehearsal", 2, -1.0, ("overfitting: lowest after 80 steps",)),
        report(2, "final", 2, -1.0, ("posterior collapse: nothing carried",)),
        report(2, "rehearsal", 2, -1.0, ("posterior collapse: nothing carried",)),
    )
    assert epochs.warnings() == (
        "2 of 3 panels: overfitting: lowest after 40 steps",
        "1 of 3 panels: posterior collapse: nothing carried",
    )
    alone = heard(report(0, "final", 2, -1.0, ("posterior collapse: nothing carried",)))
    assert alone.warnings() == ("posterior collapse: nothing carried",)


def test_mean_of_one_is_itself() -> None:
    one = report(3, "final", 1, -1.5)
    assert mean_epoch([one]).train == Figures(-1.5, 1.5, 0.0, 3)
