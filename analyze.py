"""Count what a network costs, and time it: python analyze.py model=... (see --help)."""

from omegaconf import DictConfig

from mambavision_lab.launch.entry import hydra_app


@hydra_app(config_name="analyze")
def main(cfg: DictConfig) -> None:
    """Analyze."""
    from mambavision_lab.tasks.analyze import analyze

    analyze(cfg)


if __name__ == "__main__":
    main()
