"""Make the pictures of a run that README and these pages show.

python docs/make_pictures.py RUN IMAGES

Writes curves.png, predictions.png (the contact sheet of IMAGES, a folder or glob) and report.png, a
screenshot of the run's report, for which it needs Chromium. Those here are of Fashion-MNIST, trained with:
python train.py experiment=fashion_mnist_nano trainer.max_epochs=20 trainer.limit_train_batches=90
trainer.limit_val_batches=24
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from mambavision_lab import MambaVisionInference, plot_training_curves
from mambavision_lab.report.write import write_report
from mambavision_lab.tasks.predict import classify, contact_sheet, find_images

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1440, 2400  # pixels


def main(run: str, images: str) -> None:
    """Make all three pictures."""
    plot_training_curves(run, DOCS / "curves.png")
    inference = MambaVisionInference(run, device="cpu")
    found = [*classify(inference, find_images(images), 1, 64, 2)]
    contact_sheet([item for item in found if len(item[1])][:32]).save(DOCS / "predictions.png")  # type: ignore[misc]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("report.png needs chromium")
    target = DOCS / "report.png"
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}")
    page = write_report(run).as_uri()
    subprocess.run([chromium, *options, f"--screenshot={target}", page], check=True)
    with Image.open(target) as picture:
        small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    small.save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
