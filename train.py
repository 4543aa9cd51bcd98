"""Train a network and test its best checkpoint: python train.py model=... data=... (see --help)."""

from omegaconf import DictConfig

from mambavision_lab.launch.entry import hydra_app


@hydra_app(config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train; returns the figure named by `optimized_metric`."""
    from mambavision_lab.tasks.train import train

    return train(cfg)


if __name__ == "__main__":
    main()
