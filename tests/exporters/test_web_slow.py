"""The web page in headless Chromium computes what the network does. Needs Chromium, Node and onnxruntime-web.

ONNXRUNTIME_WEB names the folder node_modules/onnxruntime-web/dist.
"""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from export_cases import make_plain
from torchvision.transforms.v2.functional import resize, to_pil_image

from mambavision_lab.data.preparation import preparation_of

pytestmark = pytest.mark.slow


@pytest.fixture
def chromium():
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("needs Chromium")
    return found


def test_page_opened_from_disk_computes_what_the_network_does(chromium, tmp_path):
    runtime = Path(os.environ.get("ONNXRUNTIME_WEB", "node_modules/onnxruntime-web/dist"))
    if not runtime.is_dir():
        pytest.skip("needs npm's onnxruntime-web; ONNXRUNTIME_WEB names its folder dist")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    from mambavision_lab.exporters.web import WebFormat

    net = make_plain(depth=1, bidirectional=False, num_classes=3)
    preprocessing = {"image_size": 16, "in_chans": 3, "mean": [0.5], "std": [0.3]}
    preprocessing |= {"keeps_aspect": True, "crop_fraction": 0.75, "background": [255, 255, 255]}
    description = {"class_names": ["ant", "bee", "cät"], "preprocessing": preprocessing}
    web = WebFormat(runtime=str(runtime), scan="op", tolerance=1e-5)
    web.write(web.make_spec(net, 3, 16, description), tmp_path)
    page = (tmp_path / "model.html").read_text()
    own = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    assert "://" not in own  # no request to any host
    images = torch.randn(1, 3, 16, 16)
    noise = torch.randint(256, (3, 5, 4), dtype=torch.uint8)
    photo = resize(noise, [61, 47], antialias=True)
    file = io.BytesIO()
    to_pil_image(photo).save(file, "PNG")
    # The page answers in its title, once it is ready. Virtual time passes with each call of the timer.
    probe = f"""<script>
const values = {json.dumps(images.flatten().tolist())};
const file = Uint8Array.from(atob("{base64.b64encode(file.getvalue()).decode()}"), (c) => c.charCodeAt(0));
const wait = setInterval(async () => {{
  if (!window.logits) return;
  clearInterval(wait);
  const logits = await window.logits(values);
  document.title = JSON.stringify([logits, await window.classify(new Blob([file]))]);
}}, 1);
</script>"""
    (tmp_path / "probe.html").write_text(page.replace("</body>", f"{probe}</body>"))
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=300000")
    done = subprocess.run(
        [
            chromium,
            *flags,
            f"--user-data-dir={tmp_path}/profile",
            "--dump-dom",
            (tmp_path / "probe.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(\[.*\])</title>", done.stdout)
    assert title, re.search(r'id="status"[^<]*<', done.stdout) or done.stderr[-500:]
    logits, ranked = json.loads(title[1])
    prepared = preparation_of(preprocessing, "test")
    with torch.inference_mode():
        assert (torch.tensor(logits) - net(images)[0]).abs().max() <= 1e-5
        expected = net(prepared.normalize(prepared.prepare(photo)[None]))[0].softmax(0)
    found = torch.tensor([dict(ranked)[name] for name in description["class_names"]])
    assert (found - expected).abs().max() <= 0.01  # browsers resize in their own way
