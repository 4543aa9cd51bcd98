"""Images come as .npy files too, and are answered as MambaVisionInference answers arrays."""

import asyncio
import base64
from types import SimpleNamespace

import numpy as np
import pytest
from image_bytes import noise_png, npy

from mambavision_lab.server.arrays import read_arrays

RAW = {"Content-Type": "application/octet-stream"}


def noise(*shape):
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def damaged(shape, descr="|u1", extra=b""):
    """A file whose header promises what its few bytes do not hold."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x" * 12 + extra


@pytest.mark.parametrize(
    "array",
    [
        noise(5, 4),
        noise(5, 4, 3),
        np.asfortranarray(noise(5, 4, 3)),
        (noise(5, 4, 3) / 255).astype(">f8"),
        (noise(5, 4) / 255).astype(np.float16),
    ],
)
def test_array_of_one_image_is_read_as_it_was_written(array):
    found, are_several = read_arrays(npy(array))
    assert not are_several
    assert found.shape == (1, *array.shape, 1)[:4] if array.ndim == 2 else (1, *array.shape)
    assert np.array_equal(found.squeeze(), array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (damaged((10**9, 10**6, 10**6, 3)), "damaged"),
        (damaged((10**30,)), "damaged"),
        (damaged((4, 4)), "damaged"),
        (damaged((2, 2, 3), "|O"), "damaged"),
        (damaged((), "no type"), "damaged"),
        (damaged((2, 6))[:20], "damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(40), "damaged"),
        (b"\x93NUMPY", "damaged"),
        (damaged("(" * 4000), "damaged"),
        (damaged((2, 2, 3), [("a", "|u1")]), "wanted uint8"),
        (npy(np.zeros((2, 2), np.int64)), "wanted uint8"),
        (npy(np.zeros((2, 2), complex)), "wanted uint8"),
        (npy(np.zeros((2, 2), np.longdouble)), "wanted uint8"),
        (npy(np.zeros(4, np.uint8)), "wanted (H, W)"),
        (npy(np.zeros((0, 8, 8, 3), np.uint8)), "wanted (H, W)"),
        (npy(np.zeros((1, 1, 8, 8, 3), np.uint8)), "wanted (H, W)"),
    ],
)
def test_array_that_is_damaged_or_holds_no_images_is_refused(content, named):
    with pytest.raises(ValueError, match=r"array|npy") as caught:
        read_arrays(content)
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
    assert (info["image_size"], info["in_chans"], info["batch_size"]) == (
        inference.image_size,
        3,
        4,
    )


def test_server_refuses_bad_arrays_alone(client):
    for status, named, array in (
        (400, "the network takes 3", noise(8, 8, 2)),
        (400, "floats must lie in [0, 1]", np.full((2, 8, 8, 3), 2.0)),
        (400, "wanted uint8", np.zeros((8, 8, 3), np.int32)),
        (413, "more than 4 images", noise(5, 8, 8, 3)),
        (413, "pixels, more than 10,000", noise(101, 100)),
    ):
        answer = client.post("/predict", content=npy(array), headers=RAW)
        assert answer.status_code == status
        assert named in answer.json()["error"]
    files = [("images", ("a.png", noise_png())), ("images", ("a.npy", npy(noise(8, 8, 2))))]
    answer = client.post("/predict", files=files)
    assert (answer.status_code, answer.json()["error"][:13]) == (400, "image 2 of 2:")
    assert client.post("/predict", content=npy(noise(8, 8, 3)), headers=RAW).status_code == 200


def test_files_are_refused_for_a_network_of_channels_that_none_has():
    exceptions = pytest.importorskip("starlette.exceptions", reason="needs the extra serve")
    from mambavision_lab.server.images import prepare_all

    network = SimpleNamespace(in_chans=5)
    with pytest.raises(exceptions.HTTPException, match="send a") as caught:
        asyncio.run(prepare_all(network, [noise_png()], 10_000))
    assert caught.value.status_code == 415
