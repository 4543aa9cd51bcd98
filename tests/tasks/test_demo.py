"""demo.py in a real browser, at the widths of a phone and of a desktop; what it refuses."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from task_options import TRAIN

from mambavision_lab import MambaVisionInference
from mambavision_lab.tasks.demo import make_page


@pytest.fixture
def inference(call, tmp_path):
    assert call("train", *TRAIN)[0] == 0
    return MambaVisionInference(tmp_path / "logs" / "latest", device="cpu")


@pytest.mark.slow
def test_demo_shows_classes_and_overlay_in_a_browser(inference, tmp_path):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("chromium is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    (expected, _), *_ = inference.predict(tmp_path / "image.png")
    page = make_page(inference, "toy", "scan")
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    outside = []
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for width in (390, 1440):
                tab = browser.new_page(viewport={"width": width, "height": 900})
                tab.on("request", lambda request: outside.append(request.url))
                tab.goto(url)
                tab.wait_for_selector("input[type=file]", state="attached")
                tab.set_input_files("input[type=file]", tmp_path / "image.png")
                tab.wait_for_selector("text=implicit attention of the scan")
                assert expected in tab.inner_text("body")
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
            browser.close()
    finally:
        page.close()
    assert all(u.startswith((url, "data:", "blob:")) for u in outside)


def test_demo_without_gradio_names_its_extra(inference, refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    message = refusal(lambda: make_page(inference, "toy", "scan"))
    assert "mambavision-lab[demo]" in message
