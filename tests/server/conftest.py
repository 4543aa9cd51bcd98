from pathlib import Path

import pytest

from mambavision_lab import MambaVisionInference

STORED = Path(__file__).parents[1] / "runs" / "stored_run"


@pytest.fixture(scope="package")
def inference():
    return MambaVisionInference(STORED, device="cpu")


@pytest.fixture
def limits():
    pytest.importorskip("starlette", reason="needs the extra serve")
    from mambavision_lab.server.app import Limits

    return Limits(
        max_images=4,
        max_bytes=20_000,
        max_pixels=10_000,
        max_waiting=8,
        timeout_s=20,
        batch_size=3,
        batch_wait_ms=1,
        top_k=2,
        threshold=0.5,
    )


@pytest.fixture
def client(inference, limits):
    testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")
    from mambavision_lab.server.app import make_app

    with testclient.TestClient(make_app(inference, limits)) as found:
        yield found
