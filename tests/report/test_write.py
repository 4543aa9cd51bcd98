"""Reports from small run folders written here."""

import csv
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

import mambavision_lab.report
from mambavision_lab.lit.callbacks.record_predictions import RecordPredictions
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.lit.loggers import wandb_logger
from mambavision_lab.report.__main__ import main
from mambavision_lab.report.pictures import stored_pictures
from mambavision_lab.report.publish import publish, tables
from mambavision_lab.report.quality import measure_quality
from mambavision_lab.report.run_record import read_run
from mambavision_lab.report.write import write_comparison, write_report
from mambavision_lab.runs.differences import write_differences


def predictions_of(num_classes, num_images=200, with_names=True):
    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=num_images).astype(np.int32)
    predicted = np.where(rng.random(num_images) < 0.7, labels, 0).astype(np.int32)
    confidence = rng.random(num_images).astype(np.float32)
    arrays = {"labels": labels, "predicted": predicted, "confidence": confidence}
    arrays["class_names"] = np.array(
        [f"kind {i}" for i in range(num_classes)] if with_names else []
    )
    for group in ("mistakes", "random"):
        arrays[f"{group}_images"] = rng.integers(255, size=(3, 8, 8, 3)).astype(np.uint8)
        arrays[f"{group}_maps"] = rng.integers(255, size=(3, 8, 8)).astype(np.uint8)
        arrays |= {
            f"{group}_{key}": arrays[key][:3] for key in ("labels", "predicted", "confidence")
        }
    return arrays


@pytest.fixture
def make_run(tmp_path):
    """Write a run folder as a training leaves it."""

    def make(name="run", rows=((1, 2.0), (2, 1.5)), num_classes=4, lr=0.1, with_names=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(f"name: toy\noptimizer:\n  lr: {lr}\n  kind: <b>\n")
        (folder / "metrics.json").write_text(json.dumps({"test/acc1": 0.5}))
        write_differences([("optimizer.lr", "0.001", str(lr))], folder)
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "step", "train/loss", "val/acc1", "lr-SGD"])
            writer.writerows([0, step, loss, 0.5, lr] for step, loss in rows)
            if rows:
                writer.writerow([9, 99, "", 0.75, ""])
        if num_classes:
            arrays = predictions_of(num_classes, with_names=with_names)
            np.savez_compressed(folder / "predictions.npz", **arrays)
        return folder

    return make


def test_report_is_one_offline_file_with_all_its_parts(make_run):
    page = write_report(make_run()).read_text()
    assert 'class="pictures"' in page
    for part in ("Loss", "Confusion matrix", "ECE", "Most confident mistakes", "kind 3", "50.00%"):
        assert part in page
    assert "<b>" not in page.split("The whole config")[1]
    for reference in ('src="http', 'href="http', "<script", "@import", "url(http"):
        assert reference not in page


def test_report_of_a_thousand_classes_and_noise_with_overlays_stays_small(make_run):
    run = make_run(num_classes=1000)
    arrays, rng = predictions_of(1000), np.random.default_rng(0)
    for group in ("mistakes", "random"):
        arrays |= {k: v.repeat(4, axis=0) for k, v in arrays.items() if k.startswith(group)}
        arrays[f"{group}_images"] = rng.integers(255, size=(12, 112, 112, 3)).astype(np.uint8)
        arrays[f"{group}_maps"] = rng.integers(255, size=(12, 112, 112)).astype(np.uint8)
    np.savez_compressed(run / "predictions.npz", **arrays)
    start = time.process_time()
    report = write_report(run)
    assert time.process_time() - start < 30
    assert 2**20 < report.stat().st_size < 5 * 2**20


@pytest.mark.parametrize("rows", [(), ((1, 2.0),), ((1, 2.0), (2, float("nan")))])
def test_report_of_few_or_broken_metrics_is_written(make_run, rows):
    page = write_report(make_run(rows=rows, num_classes=0)).read_text()
    assert ("No curves" in page) == (len(rows) == 0)
    assert ("Not finite at some steps" in page) == (len(rows) == 2)
    assert "No test predictions" in page


def cell_after(page: str, heading: str) -> str:
    """Text of a page from a heading to the end of its card."""
    return page.partition(heading)[2].partition("</div>")[0]


def test_report_shows_what_differs_from_the_defaults(make_run):
    folder = make_run(lr=0.25)
    card = cell_after(write_report(folder).read_text(), "Differs from the defaults")
    assert "optimizer.<wbr>lr</td><td>0.001</td><td>0.25" in card
    write_differences([], folder)
    card = cell_after(write_report(folder).read_text(), "Differs from the defaults")
    assert "Nothing." in card
    assert "Unknown" not in card


def test_report_of_a_run_of_an_earlier_version_is_written(make_run):
    folder = make_run()
    (folder / "differences.json").unlink()
    (folder / "snapshot").mkdir()  # from which nothing is composed
    (folder / "snapshot" / "snapshot.yaml").write_text("defaults: [a_schema_of_then]\n")
    record = read_run(folder)
    assert record.differences is None
    page = write_report(folder).read_text()
    assert "Unknown: the run was made by an earlier version." in page
    assert "Confusion matrix" in page
    assert "settings" not in tables(record, None)


def test_report_neither_composes_nor_knows_a_trainer():
    for path in Path(mambavision_lab.report.__file__).parent.glob("*.py"):
        assert not re.search(r"\bhydra\b|\.lit\b|Trainer", path.read_text()), path


def test_report_without_class_names_numbers_them(make_run):
    page = write_report(make_run(with_names=False)).read_text()
    assert "stored no class names" in page


def test_curves_leave_out_the_final_validation(make_run):
    steps, values = read_run(make_run()).curves["val/acc1"]
    assert steps.tolist() == [1, 2]
    assert values.tolist() == [0.5, 0.5]


def test_quality_counts_by_hand():
    quality = measure_quality(
        {
            "labels": np.array([0, 0, 1, 1]),
            "predicted": np.array([0, 1, 1, 1]),
            "confidence": np.array([0.9, 0.9, 0.9, 0.9], dtype=np.float32),
        }
    )
    assert quality.confusion.tolist() == [[1, 1], [0, 2]]
    assert quality.precision == pytest.approx([1, 2 / 3])
    assert quality.recall == pytest.approx([0.5, 1])
    assert quality.ece == pytest.approx(0.15)
    assert quality.confused_pairs() == [("0", "1", 1, 0.5)]


def test_quality_agrees_with_an_independent_computation():
    stored = predictions_of(7, num_images=3000)
    labels, predicted, confidence = (stored[k] for k in ("labels", "predicted", "confidence"))
    quality = measure_quality(stored)
    expected = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        gap = abs(np.mean(labels[inside] == predicted[inside]) - np.mean(confidence[inside]))
        expected += gap * np.mean(inside)
    assert quality.ece == pytest.approx(expected, abs=1e-6)
    assert expected > 0.1
    arguments = torch.from_numpy(predicted), torch.from_numpy(labels)
    assert quality.confusion.tolist() == multiclass_confusion_matrix(*arguments, 7).tolist()
    for found, metric in (
        (quality.precision, multiclass_precision),
        (quality.recall, multiclass_recall),
    ):
        assert found == pytest.approx(metric(*arguments, 7, average="none").numpy(), abs=1e-6)


def test_training_curves_are_drawn_from_the_package_root(make_run, refusal):
    assert mambavision_lab.plot_training_curves(make_run()).read_bytes()[:4] == b"\x89PNG"
    empty = make_run("empty", rows=())
    assert "has no curves" in refusal(lambda: mambavision_lab.plot_training_curves(empty))


def test_folder_that_is_no_run_is_refused_on_one_line(tmp_path, refusal, capsys):
    assert "holds no config.yaml" in refusal(lambda: read_run(tmp_path))
    assert "is no folder" in refusal(lambda: read_run(tmp_path / "absent"))
    (tmp_path / "config.yaml").write_text("name: toy")
    (tmp_path / "differences.json").write_text("{}")
    assert "differences.json is damaged" in refusal(lambda: read_run(tmp_path))
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_comparison_overwrites_nothing_without_overwrite(make_run, tmp_path, capsys):
    runs, page = [str(make_run("a")), str(make_run("b", lr=0.2))], tmp_path / "page.html"
    page.write_text("mine")
    refused = {
        page: "is already there; give --overwrite",
        tmp_path / "no" / "x": "cannot be written",
    }
    for output, named in refused.items():
        with pytest.raises(SystemExit):
            main([*runs, "--output", str(output)])
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
    assert page.read_text() == "mine"
    main([*runs, "--output", str(page), "--overwrite"])
    assert "2 runs compared" in page.read_text()


def test_comparison_shows_what_differs(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", lr=0.2)]
    for run in runs:  # a folder of its own is no difference
        with (run / "config.yaml").open("a") as config:
            config.write(f"logger:\n  folder: {run.resolve()}/x\n")
    page = write_comparison(runs, tmp_path / "c.html").read_text()
    assert "logger.<wbr>folder" not in page
    assert "run 2 (val)" in page
    assert "1: a" in page
    assert "optimizer.<wbr>lr" in page
    assert "optimizer.<wbr>kind" not in page


def test_recorded_predictions_are_those_of_the_network(tmp_path, make_net, make_trainer):
    images, labels = torch.randn(10, 2, 16, 16), torch.arange(10) % 3
    classifier = ImageClassifier(make_net(), num_classes=3)
    trainer = make_trainer(callbacks=[RecordPredictions(str(tmp_path), num_images=4)])
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    trainer.test(classifier, loader, verbose=False)
    with torch.no_grad():
        confidence, predicted = classifier.eval()(images).softmax(1).max(1)
    with np.load(tmp_path / "predictions.npz") as stored:
        assert stored["labels"].tolist() == labels.tolist()
        assert stored["predicted"].tolist() == predicted.tolist()
        assert stored["confidence"] == pytest.approx(confidence.numpy(), abs=1e-5)
        wrong = confidence[predicted != labels].sort(descending=True).values[:4]
        assert stored["mistakes_confidence"] == pytest.approx(wrong.numpy(), abs=1e-5)


def test_tensorboard_gets_pictures_and_tables(make_run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="tb", version="")
    publish(read_run(make_run()), [logger], step=3)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert {"report/confusion_matrix", "report/random_overlays"} <= {*events.Tags()["images"]}
    assert "report/classes/text_summary" in events.Tags()["tensors"]
    assert "report/frequent_mistakes/text_summary" in events.Tags()["tensors"]


def test_wandb_gets_pictures_and_tables(make_run, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = wandb_logger(str(tmp_path), "toy", offline=True)
    publish(read_run(make_run()), [logger], step=3)
    logger.experiment.finish()
    media = {path.name.rsplit("_", 2)[0] for path in tmp_path.rglob("media/**/*.*")}
    assert {"confusion_matrix", "loss", "classes", "settings", "random_overlays"} <= media


@pytest.fixture
def mask_run(make_run):
    """Write a run folder of a segmentation of three classes."""
    folder = make_run(num_classes=0)
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["ground", "tree", "house"])}
    arrays["pixels"] = np.array([[90, 5, 5], [10, 40, 0], [20, 0, 30]])
    for group in ("mistakes", "random"):
        arrays[f"{group}_images"] = rng.integers(255, size=(3, 8, 8, 1)).astype(np.uint8)
        arrays[f"{group}_masks"] = rng.integers(3, size=(3, 2, 8, 8)).astype(np.uint8)
        arrays[f"{group}_dice"] = np.array([0.25, 0.5, 0.75], np.float32)
    np.savez_compressed(folder / "predictions.npz", **arrays)
    return folder


def test_report_of_masks_says_what_its_pictures_show(mask_run):
    page = write_report(mask_run).read_text()
    for text in (
        'alt="the true mask"',
        'alt="the predicted mask"',
        "Lowest Dice",
        ">pixels<",
        "Dice, IoU of 3",
    ):
        assert text in page
    assert "what the network looked at" not in page
    assert "true class" not in page


def test_tensorboard_gets_true_and_predicted_masks(mask_run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="tb", version="")
    record = read_run(mask_run)
    publish(record, [logger], step=3)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    shown = {"report/mistakes", "report/mistakes_overlays", "report/dice_and_iou_by_class"}
    assert shown <= {*events.Tags()["images"]}
    headings, _ = tables(record, measure_quality(record.predictions))["classes"]
    assert headings == ["class", "pixels", "Dice", "IoU"]
    captions = [p.caption for p in stored_pictures(record, "mistakes", ["", "", ""])]
    assert captions == ["Dice 25.0 %", "Dice 50.0 %", "Dice 75.0 %"]


def test_report_of_several_labels(make_run, make_trainer, make_net):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(10, 2, 16, 16, generator=generator)
    labels = (torch.rand(10, 3, generator=generator) < 0.5).long()
    classifier = ImageClassifier(make_net(), num_classes=3, is_multilabel=True)
    run = make_run(num_classes=0)
    trainer = make_trainer(callbacks=[RecordPredictions(str(run), num_images=4)])
    trainer.test(classifier, DataLoader(TensorDataset(images, labels), batch_size=4), verbose=False)
    with torch.no_grad():
        probabilities = classifier.eval()(images).sigmoid()
    record = read_run(run)
    assert record.predictions["targets"].tolist() == labels.tolist()
    assert record.predictions["probabilities"] == pytest.approx(probabilities.numpy(), abs=1e-5)
    worst = (probabilities - labels).abs().amax(1).sort(descending=True).values[:4]
    mistakes = np.abs(
        record.predictions["mistakes_probabilities"] - record.predictions["mistakes_targets"]
    ).max(1)
    assert mistakes == pytest.approx(worst.numpy(), abs=1e-5)
    quality = measure_quality(record.predictions)
    expected = trainer.callback_metrics
    assert quality.average_precision.mean() == pytest.approx(expected["test/map"].item())
    assert quality.num_images.tolist() == labels.sum(0).tolist()
    page = write_report(run).read_text()
    for part in (
        "Average precision, precision, recall, F1 of 3 classes",
        "Most confident mistakes",
        "what the network looked at",
    ):
        assert part in page
    assert "Confusion" not in page
    headings, rows = tables(record, quality)["classes"]
    assert headings == ["class", "images", "average precision", "precision", "recall", "F1"]
    assert len(rows) == 3


def test_report_of_volumes_shows_slices_with_their_maps(make_run, make_trainer, make_net):
    volumes, labels = torch.randn(6, 2, 10, 16, 16), torch.arange(6) % 3
    net = make_net(dims=3, num_slices=10, patch_size=[1, 4, 4])
    run = make_run(num_classes=0)
    trainer = make_trainer(callbacks=[RecordPredictions(str(run), num_images=4)])
    loader = DataLoader(TensorDataset(volumes, labels), batch_size=2)
    trainer.test(ImageClassifier(net, num_classes=3), loader, verbose=False)
    stored = read_run(run).predictions
    assert stored["random_images"].shape == (4, 16, 8 * 16, 1)  # eight slices side by side
    assert stored["random_maps"].shape == (4, 16, 8 * 16)
    assert stored["random_maps"].reshape(4, 16, 8, 16).any(axis=(1, 3)).all()
    page = write_report(run).read_text()
    assert 'class="pictures strips"' in page
    assert "what the network looked at" in page
