"""Evaluate a checkpoint on its own test images or others: python eval.py ckpt_path=... (see --help)."""

from omegaconf import DictConfig

from mambavision_lab.launch.entry import hydra_app


@hydra_app(config_name="eval")
def main(cfg: DictConfig) -> float:
    """Evaluate; returns top-1."""
    from mambavision_lab.tasks.evaluate import evaluate

    return evaluate(cfg)


if __name__ == "__main__":
    main()
