"""Images come as .npy files too, and are answered as MambaVisionInference answers arrays."""

import asyncio
import base64
from types import SimpleNamespace

import numpy as np
import pytest
from image_bytes import noise_png, npy

from mambavision_lab.server.arrays import read_array

RAW = {"Content-Type": "application/octet-stream"}


def noise(*shape):
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def file_of(shape, descr="|u1"):
    """A file of this header and twelve bytes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x" * 12


@pytest.mark.parametrize(
    "array",
    [
        noise(5, 4),
        noise(5, 4, 3),
        noise(2, 5, 4, 3),
        np.asfortranarray(noise(5, 4, 3)),
        (noise(5, 4, 3) / 255).astype(">f8"),
        (noise(5, 4) / 255).astype(np.float16),
    ],
)
def test_array_is_read_as_it_was_written(array):
    found = read_array(npy(array))
    assert np.array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (file_of((10**9, 10**6, 10**6, 3)), "and the .npy file has 12"),
        (file_of((2, 10**30)), "and the .npy file has 12"),
        (file_of((4, 4)), "that is 16 bytes, and the .npy file has 12"),
        (file_of((2, 5)), "that is 10 bytes, and the .npy file has 12"),
        (npy(noise(4, 4)) * 2, "that is 16 bytes"),
        (file_of((-1, 4, 3)), "it has no pixels"),
        (npy(noise(0, 8, 8, 3)), "it has no pixels"),
        (file_of((2, 2, 3), "|O"), "wanted uint8"),
        (file_of((2, 6))[:20], "no header"),
        (file_of((), "no type"), "no header"),
        (file_of("(" * 200), "no header"),
        (file_of(f"(1L, 1L, 3L{' ' * 9000})"), "no header"),  # slow to read
        (b"\x93NUMPY\x09\x00" + bytes(40), "no header"),
        (b"\x93NUMPY", "no header"),
        (npy(np.zeros((2, 6), [("a", np.uint8)])), "wanted uint8"),
        (npy(np.zeros((2, 2), np.int64)), "wanted uint8"),
        (npy(np.zeros((2, 2), complex)), "wanted uint8"),
        (npy(np.zeros((2, 2), np.longdouble)), "wanted uint8"),
        (npy(noise(4)), "wanted (H, W)"),
        (npy(noise(1, 1, 8, 8, 3)), "wanted (H, W)"),
    ],
)
def test_array_that_is_damaged_or_holds_no_images_is_refused(content, named):
    with pytest.raises(ValueError, match=r"npy|array") as caught:
        read_array(content)
    assert named in str(caught.value)


def test_server_answers_arrays_as_the_network_does(client, inference):
    images = noise(4, 20, 30, 3)
    expected = [
        {"classes": [{"class": c, "probability": pytest.approx(p, abs=1e-6)} for c, p in ranking]}
        for ranking in inference.predict(list(images), top_k=2)
    ]
    one, stack = npy(images[0]), npy(images)
    for form in (
        {"content": one, "headers": RAW},
        {"files": {"image": ("a.npy", one)}},
        {"json": {"image": base64.b64encode(one).decode()}},
    ):
        assert client.post("/predict", **form).json() == expected[0]
    pair = [("images", ("a.npy", one)), ("images", ("b.npy", npy(images[1:])))]
    for form in ({"content": stack, "headers": RAW}, {"files": pair}):
        assert client.post("/predict", **form).json() == {"images": expected}
    mixed = [("images", ("a.png", noise_png())), ("images", ("a.npy", one))]
    assert client.post("/predict", files=mixed).json()["images"][1] == expected[0]
    info = client.get("/info").json()
    expected_info = {"image_size": inference.image_size, "in_chans": 3, "max_images": 4}
    assert {key: info[key] for key in expected_info} == expected_info


def test_form_that_was_cut_off_is_refused_whole(client):
    request = client.build_request(
        "POST", "/predict", files=[("images", (f"{k}.npy", npy(noise(8, 8, 3)))) for k in range(3)]
    )
    whole, kind = request.read(), {"Content-Type": request.headers["Content-Type"]}
    assert len(client.post("/predict", content=whole, headers=kind).json()["images"]) == 3
    for cut in (len(whole) - 4, len(whole) - 60, len(whole) // 2):
        answer = client.post("/predict", content=whole[:cut], headers=kind)
        assert (answer.status_code, "cut off" in answer.json()["error"]) == (400, True)


def test_files_of_a_form_are_counted_before_they_are_read(client, monkeypatch):
    from mambavision_lab.server import images

    monkeypatch.setattr(images, "read_array", lambda content: pytest.fail("was read"))
    files = [("images", ("a.npy", npy(noise(8, 8, 3))))] * 5
    assert client.post("/predict", files=files).status_code == 413


def test_server_refuses_bad_arrays_alone(client):
    for status, named, array in (
        (400, "image of shape (8, 8, 2)", noise(8, 8, 2)),
        (400, "the network takes 3", noise(1, 8, 8, 2)),
        (400, "images of shape (2, 8, 8, 3)", np.full((2, 8, 8, 3), 2.0)),
        (400, "images of shape (2, 8, 8, 4)", np.full((2, 8, 8, 4), 2.0)),
        (400, "wanted uint8", np.zeros((8, 8, 3), np.int32)),
        (413, "more than 4 images", noise(5, 8, 8, 3)),
        (413, "pixels, more than 10,000", noise(101, 100)),
    ):
        answer = client.post("/predict", content=npy(array), headers=RAW)
        assert answer.status_code == status
        assert named in answer.json()["error"]
    for status, second in (
        (400, npy(noise(8, 8, 2))),
        (400, npy(noise(8))),
        (413, npy(noise(4, 8, 8, 3))),
    ):
        files = [("images", ("a.png", noise_png())), ("images", ("a.npy", second))]
        answer = client.post("/predict", files=files)
        assert (answer.status_code, answer.json()["error"][:12]) == (status, "file 2 of 2:")
    assert client.post("/predict", content=npy(noise(8, 8, 3)), headers=RAW).status_code == 200


def test_files_are_refused_for_a_network_of_channels_that_none_has():
    exceptions = pytest.importorskip("starlette.exceptions", reason="needs the extra serve")
    from mambavision_lab.server.images import prepare_all

    network = SimpleNamespace(in_chans=5)
    with pytest.raises(exceptions.HTTPException, match="send a") as caught:
        asyncio.run(prepare_all(network, [noise_png()], 4, 10_000))
    assert caught.value.status_code == 415
