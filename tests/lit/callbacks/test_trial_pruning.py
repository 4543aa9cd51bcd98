"""Trials of an Optuna sweep that are stopped, and those that are not."""

import json
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from mambavision_lab.launch.sweeps.optuna import JOURNAL, STUDY, OptunaSearch, open_journal
from mambavision_lab.lit.callbacks.trial_pruning import TrialPruning


@pytest.fixture
def make_trial(tmp_path):
    """Make a sweep whose first two trials had this loss in each epoch; returns the third's trial.json."""

    def make(loss: float, **options) -> Path:
        search = OptunaSearch(n_trials=3, num_parallel=3, num_random=2, **options)
        parsed = OverridesParser.create().parse_overrides(["optimizer.lr=interval(0.1,0.9)"])
        jobs = next(search.batches(parsed, tmp_path, {}, minimize=True))
        study, storage = study_of(tmp_path), open_journal(tmp_path / JOURNAL)
        for job in jobs[:2]:
            trial_id = storage.get_trial_id_from_study_id_trial_number(0, job.number)
            for epoch in range(1, 6):
                storage.set_trial_intermediate_value(trial_id, epoch, loss)
            study.tell(job.number, loss)
        trial_file = tmp_path / "2" / "trial.json"
        trial_file.parent.mkdir()
        trial_file.write_text(jobs[2].files["trial.json"])
        return trial_file

    return make


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer):
    """Train the toy network as a trial; returns the trainer and the trial as its study has it."""

    def run(trial_file: Path, max_epochs: int = 3):
        callback = TrialPruning(trial_file, "val/loss")
        trainer = make_trainer(max_epochs=max_epochs, callbacks=[callback], num_sanity_val_steps=1)
        trainer.fit(make_classifier(), make_loader(), make_loader())
        return trainer, study_of(trial_file.parents[1]).trials[2]

    return run


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=STUDY, storage=open_journal(folder / JOURNAL))


@pytest.mark.parametrize("pruning_epochs", [1, 2])
def test_bad_trial_stops_after_the_epochs_that_it_has_in_any_case(make_trial, fit, pruning_epochs):
    trial_file = make_trial(loss=1e-3, pruning_epochs=pruning_epochs)
    trainer, trial = fit(trial_file)
    assert trainer.current_epoch == pruning_epochs
    assert [*trial.intermediate_values] == [*range(1, pruning_epochs + 1)]
    loss = trainer.callback_metrics["val/loss"].item()
    assert trial.intermediate_values[pruning_epochs] == pytest.approx(loss)
    assert trial_file.with_name("pruned").is_file()


@pytest.mark.parametrize(("loss", "max_epochs"), [(1e3, 3), (1e-3, 1)], ids=["good", "at its end"])
def test_other_trials_run_to_their_end(make_trial, fit, loss, max_epochs):
    trial_file = make_trial(loss)
    trainer, trial = fit(trial_file, max_epochs)
    assert trainer.current_epoch == max_epochs
    assert len(trial.intermediate_values) == max_epochs
    assert not trial_file.with_name("pruned").exists()


def test_resumed_trial_reports_an_epoch_again(make_trial, fit):
    trial_file = make_trial(loss=1e3)
    _, first = fit(trial_file)
    _, second = fit(trial_file, max_epochs=2)
    changed = [first.intermediate_values[n] != second.intermediate_values[n] for n in (1, 2, 3)]
    assert changed == [True, True, False]


def test_pruner_is_the_one_that_the_search_names(make_trial, fit):
    trial_file = make_trial(loss=1e-3)
    trial = json.loads(trial_file.read_text())
    trial_file.write_text(json.dumps(trial | {"pruner": {"_target_": "optuna.pruners.NopPruner"}}))
    assert fit(trial_file)[0].current_epoch == 3
