"""Write a trained network for another runtime: python export.py ckpt_path=... export=onnx (see --help)."""

from omegaconf import DictConfig

from mambavision_lab.launch.entry import hydra_app


@hydra_app(config_name="export")
def main(cfg: DictConfig) -> None:
    """Export."""
    from mambavision_lab.tasks.export import export

    export(cfg)


if __name__ == "__main__":
    main()
