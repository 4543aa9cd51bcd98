"""Export to one HTML page that holds weights and runtime, requests nothing and opens from disk."""

import base64
import gzip
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mambavision_lab.data.decode import WHITE
from mambavision_lab.data.image_files import CROP_FRACTION
from mambavision_lab.errors import ConfigError, NotInstalledError
from mambavision_lab.exporters.base import ExportSpec
from mambavision_lab.exporters.onnx import MAX_DROP, NUM_CALIBRATION, OnnxFormat
from mambavision_lab.exporters.runtimes.base import Runtime
from mambavision_lab.exporters.runtimes.load import load_exported

_SCRIPT, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


class WebFormat(OnnxFormat):
    """A page with onnxruntime-web, one thread, in which images are dropped; arguments as in `OnnxFormat`.

    The parity check runs the graph that is in the page with ONNX Runtime here, not in a browser.

    Args:
        runtime: Folder `dist` of npm's package onnxruntime-web.
        scan: As in `OnnxFormat`.
        tolerance: As in `OnnxFormat`.
        image_size: As in `OnnxFormat`.
        quantize: As in `OnnxFormat`.
        max_drop: As in `OnnxFormat`.
        num_calibration: As in `OnnxFormat`.
        reduce_range: As in `OnnxFormat`.

    Raises:
        NotInstalledError: The package is not there.
    """

    name = "web"
    files = ("model.html",)
    runs_here = False

    def __init__(
        self,
        *,
        runtime: str,
        scan: str,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        quantize: str | None = None,
        max_drop: float = MAX_DROP,
        num_calibration: int = NUM_CALIBRATION,
        reduce_range: bool | None = None,
    ) -> None:
        super().__init__(
            scan=scan,
            tolerance=tolerance,
            image_size=image_size,
            dynamic_size=False,
            quantize=quantize,
            max_drop=max_drop,
            num_calibration=num_calibration,
            reduce_range=reduce_range,
        )
        self.runtime = Path(runtime)
        if missing := [name for name in (_SCRIPT, _WASM) if not (self.runtime / name).is_file()]:
            raise NotInstalledError(
                f"export.runtime={runtime}: holds no {missing[0]}; run npm install onnxruntime-web, and give "
                "its folder node_modules/onnxruntime-web/dist"
            )

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.html."""
        if (preprocessing := spec.description.get("preprocessing")) is None:
            raise ConfigError("export=web: the network describes no preprocessing; train it again")
        if spec.description.get("has_masks") or len(spec.sides) != 2:
            raise ConfigError("export=web: the page classifies images, not masks or volumes")
        if spec.in_chans not in (1, 3):
            raise ConfigError(f"export=web: images have 1 or 3 channels, not {spec.in_chans}")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            graph = Path(scratch) / "model.onnx"
            self.write_graph(spec, graph)
            model = graph.read_bytes()
        about = {
            "name": spec.description.get("name") or "network",
            "classes": spec.description["class_names"],
            "several": bool(spec.description.get("is_multilabel")),
            "height": spec.sides[-2],
            "width": spec.sides[-1],
            **{key: preprocessing.get(key) for key in ("in_chans", "mean", "std", "keeps_aspect")},
            "crop": preprocessing.get("crop_fraction", CROP_FRACTION),
            "background": preprocessing.get("background") or WHITE,
        }
        pages = Environment(
            loader=PackageLoader("mambavision_lab.exporters", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
        )
        page = pages.get_template("web.html.j2").render(
            title=about["name"],
            value_range=preprocessing.get("value_range"),
            about=json.dumps(about).replace("<", "\\u003c"),
            script=_pack((self.runtime / _SCRIPT).read_bytes()),
            wasm=_pack((self.runtime / _WASM).read_bytes()),
            model=_pack(model),
        )
        (folder / self.files[0]).write_text(page, encoding="utf-8")

    def load(self, folder: Path) -> Runtime:
        """Load the graph that is in the page, with ONNX Runtime."""
        page = (folder / self.files[0]).read_text(encoding="utf-8")
        found = re.search(r'id="model">([^<]*)<', page)
        assert found is not None
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.onnx"
            path.write_bytes(gzip.decompress(base64.b64decode(found[1])))
            return load_exported(path)


def _pack(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
