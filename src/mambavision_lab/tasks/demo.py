"""Classify and explain images in a browser, with Gradio."""

import os
from typing import Any

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError, first_line, missing_extra
from mambavision_lab.explainers.methods import default_method
from mambavision_lab.explainers.names import METHODS
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.report.overlays import enlarge, overlay
from mambavision_lab.tasks.console import console

_NUM_CLASSES = 5  # shown as bars
_SIDE = 384  # pixels of the overlay, at least


def demo(cfg: DictConfig) -> None:
    """Serve the page until Ctrl+C.

    Args:
        cfg: The composed config, as in `configs/demo.yaml`.

    Raises:
        ConfigError: Gradio is missing, the checkpoint cannot be read, or the port is taken.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing is sent anywhere
    inference = MambaVisionInference(
        cfg.ckpt_path, device=cfg.device, scan_backend=cfg.ops.selective_scan.backend
    )
    name = cfg.run.name if cfg.run else "a trained network"
    page = make_page(inference, name, cfg.method or default_method(inference.torch_net("demo.py")))
    console.print(f"open http://{cfg.host}:{cfg.port} (Ctrl+C ends it)", soft_wrap=True)
    try:
        page.launch(server_name=cfg.host, server_port=cfg.port, quiet=True, footer_links=[])
    except OSError as error:
        raise ConfigError(f"port={cfg.port}: {first_line(error)}; give another port") from error


def make_page(inference: MambaVisionInference, name: str, method: str) -> Any:
    """Make the page: an image and a method in, the top classes and the overlay out.

    Raises:
        ConfigError: Gradio is missing, or the network has no class names.
    """
    inference.require_class_names()
    inference.require_images("demo.py")
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("demo.py", "gradio", "demo") from error

    def answer(image: Any, method: str) -> tuple[dict[str, float] | None, Any, str]:
        if image is None:
            return None, None, "Choose an image, or drop one."
        try:
            pixels = inference.prepare(image)
            (ranking,) = inference.rank(pixels[None], _NUM_CLASSES, 0.0)
            found = inference.explain_pixels(pixels, [method])[method]
        except ConfigError as error:
            return None, None, str(error)
        shown = pixels if pixels.shape[0] in (1, 3) else pixels[:1]
        picture = overlay(shown.permute(1, 2, 0).numpy(), found.map.cpu().numpy())
        text = ". ".join([found.source, *found.notes])
        return dict(ranking[:_NUM_CLASSES]), enlarge(picture, _SIDE), text

    with gradio.Blocks(title=name, analytics_enabled=False) as page:
        gradio.Markdown(f"# {name}\nDrop an image; the brighter a place, the more it mattered.")
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(type="pil", label="Image", height=280)
                chosen = gradio.Dropdown([*METHODS], value=method, label="Method")
            with gradio.Column():
                classes = gradio.Label(num_top_classes=_NUM_CLASSES, label="Classes")
                picture = gradio.Image(label="What the network looks at", buttons=["download"])
                text = gradio.Markdown()
        for event in (image.change, chosen.change):
            event(answer, [image, chosen], [classes, picture, text], api_visibility="private")
    return page
