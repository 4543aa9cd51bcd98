"""Classify images with a checkpoint: python predict.py ckpt_path=... images=... (see --help)."""

from omegaconf import DictConfig

from mambavision_lab.launch.entry import hydra_app


@hydra_app(config_name="predict")
def main(cfg: DictConfig) -> None:
    """Predict."""
    from mambavision_lab.tasks.predict import predict

    predict(cfg)


if __name__ == "__main__":
    main()
