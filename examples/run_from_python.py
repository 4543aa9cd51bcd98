"""Train, evaluate, predict with and export a network from Python, as the commands do.

python examples/run_from_python.py [override ...]
"""

import sys

from mambavision_lab import MambaVisionInference, compose, evaluate, export, predict, train


def main(overrides: list[str]) -> None:
    """Run the whole way of a network; overrides are those of train.py."""
    cfg = compose("train", ["data=synthetic", "model=mambavision_nano", *overrides])
    print(f"val/acc1 {train(cfg):.2%}")
    run = cfg.paths.output_dir

    print(f"test/acc1 {evaluate(compose('eval', [f'from_run={run}'])):.2%}")
    export(compose("export", [f"from_run={run}", "export=safetensors", f"output={run}/saved"]))

    picture = f"{run}/one.png"
    save_test_image(picture)
    predict(compose("predict", [f"from_run={run}", f"images={picture}"]))
    print(MambaVisionInference(f"{run}/saved").predict(picture, top_k=2))


def save_test_image(path: str) -> None:
    """Write the first test image of the synthetic data as a file."""
    from torchvision.transforms.v2.functional import to_pil_image

    from mambavision_lab import create_datamodule

    image, _ = create_datamodule("synthetic").splits.test[0]
    to_pil_image(image).save(path)


if __name__ == "__main__":
    main(sys.argv[1:])
