"""The client that docs/deploy.md shows is answered by a server that listens."""

import re
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.fixture
def address(inference, limits):
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
    from mambavision_lab.server.app import make_app

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(inference, limits), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_client_of_the_page_classifies_arrays(address, inference):
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    namespace = {}
    exec(example, namespace)
    images = np.random.default_rng(0).integers(256, size=(3, 12, 12, 3), dtype=np.uint8)
    expected = [ranking[0][0] for ranking in inference.predict(list(images))]
    for sent in (images, images / 255):
        found = namespace["classify"](sent, address)
        assert [one[0]["class"] for one in found] == expected
    with pytest.raises(ValueError, match="more than 4 images"):
        namespace["classify"](images.repeat(2, axis=0), address)
