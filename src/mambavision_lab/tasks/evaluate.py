"""Evaluate a checkpoint on a test split."""

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed.devices import check_devices, num_local_processes
from mambavision_lab.models.saved import load_checkpoint, load_weights
from mambavision_lab.runs.folder import open_run_folder, write_json
from mambavision_lab.tasks.build import build_classifier, build_data, build_net, build_trainer
from mambavision_lab.tasks.console import print_results


def evaluate(cfg: DictConfig) -> float:
    """Test the network of a checkpoint and write the metrics to `metrics.json`.

    Args:
        cfg: The composed config, as in `configs/eval.yaml`, with the network of the training run.

    Returns:
        Top-1 accuracy.

    Raises:
        ConfigError: The checkpoint does not fit the network, or the data have unknown classes.
    """
    if num_local_processes(cfg) > 1:
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices}: eval.py runs in one process; "
            "choose trainer.devices=1"
        )
    check_devices(cfg)
    checkpoint = load_checkpoint(cfg.ckpt_path)
    trained = checkpoint["hyper_parameters"]["data"]
    class_names = trained["class_names"]
    data = build_data(cfg)
    data.use_preprocessing(trained)
    data.use_classes(class_names)
    classifier = build_classifier(cfg, build_net(cfg), len(class_names))
    load_weights(classifier, checkpoint, cfg.ckpt_path)
    trainer = build_trainer(cfg)
    folder = open_run_folder(cfg, is_latest=False)
    results = trainer.test(classifier, datamodule=data, verbose=False)
    if not results:
        raise ConfigError(
            "no test images were evaluated; leave trainer.limit_test_batches as it is"
        )
    metrics = {name: float(value) for name, value in results[0].items()}
    write_json(metrics, folder / "metrics.json")
    print_results(f"{cfg.run.name}: {cfg.ckpt_path}", metrics, folder)
    return metrics["test/acc1"]
