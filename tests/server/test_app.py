"""The server's answers are those of predict.py, and a bad request harms no other."""

import asyncio
import base64
import dataclasses
import io
from pathlib import Path

import pytest
import torch
from composing import check
from image_bytes import noise_png
from omegaconf import OmegaConf
from PIL import Image, features

from mambavision_lab import MambaVisionInference

pytest.importorskip("starlette", reason="needs the extra serve")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")

STORED = Path(__file__).parents[1] / "runs" / "stored_run"


def damaged_avif():
    """Make a file whose decoder raises a RuntimeError, where this Pillow has that decoder."""
    if not features.check("avif"):
        return b""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "AVIF")
    return file.getvalue().replace(b"iinf", b"free")


def test_server_answers_as_the_network_does_in_every_form(client, inference):
    png = noise_png()
    expected = [
        {"class": c, "probability": pytest.approx(p, abs=1e-6)}
        for c, p in inference.predict(png, top_k=2)
    ]
    forms = (
        {"json": {"image": base64.b64encode(png).decode()}},
        {"json": {"image": base64.encodebytes(png).decode()}},
        {"json": {"image": f"DATA:image/png;base64,{base64.b64encode(png).decode()}"}},
        {"json": {"image": base64.urlsafe_b64encode(png).decode().rstrip("=")}},
        {"files": {"image": ("a.png", png, "image/png")}},
        {"content": png, "headers": {"Content-Type": "image/png"}},
    )
    for form in forms:
        answer = client.post("/predict", **form)
        assert (answer.status_code, answer.json()) == (200, {"classes": expected})
    health = {"status": "ok", "answered": 6, "refused": 0, "waiting": 0}
    assert client.get("/health").json() == health
    assert client.get("/info").json()["class_names"] == inference.class_names


def test_server_answers_several_images_of_one_request_in_order(client, inference):
    pngs = [noise_png(seed, size=(20, 20 + seed)) for seed in range(4)]
    expected = [inference.predict(png, top_k=2)[0][0] for png in pngs]
    encoded = [base64.b64encode(png).decode() for png in pngs]
    for form in (
        {"json": {"images": encoded}},
        {"files": [("images", (f"{k}.png", png)) for k, png in enumerate(pngs)]},
    ):
        found = client.post("/predict", **form).json()["images"]
        assert [one["classes"][0]["class"] for one in found] == expected
    (alone,) = client.post("/predict", json={"images": encoded[:1]}).json()["images"]
    assert alone == client.post("/predict", json={"image": encoded[0]}).json()


def test_server_refuses_each_bad_request_alone(client):
    large = Image.new("RGB", (200, 100))
    file = io.BytesIO()
    large.save(file, "PNG")
    eps, icon = io.BytesIO(), io.BytesIO()
    Image.new("L", (8, 8)).save(eps, "EPS")  # which Pillow hands to another program
    Image.new("RGBA", (64, 64)).save(icon, "ICO")  # which Pillow decodes when it opens it
    tiff = io.BytesIO()
    Image.new("F", (8, 8)).save(tiff, "TIFF")
    floats = tiff.getvalue()
    text = {"Content-Type": "text/plain"}
    raw = {"Content-Type": "application/octet-stream"}
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    good = base64.b64encode(noise_png()).decode()
    refused = (
        (400, "wanted JSON", {"json": {"picture": "x"}}),
        (400, "wanted JSON", {"json": [1]}),
        (400, "wanted JSON", {"json": {"image": "not base64!"}}),
        (400, "wanted JSON", {"json": {"image": 1}}),
        (400, "wanted JSON", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, "wanted JSON", {"json": {"images": []}}),
        (400, "wanted JSON", {"json": {"images": "eA=="}}),
        (400, "file 2 of 2: this cannot", {"json": {"images": [good, "eA=="]}}),
        (413, "more than 4 images", {"json": {"images": ["eA=="] * 5}}),
        (400, "file named image", {"files": {"photo": ("a.png", b"x")}}),
        (400, "2 files named image", {"files": [("image", ("a.png", b"x"))] * 2}),
        (400, "has no end", {"content": b"no form", "headers": form}),
        (400, "boundary", {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
        (400, "cannot be read as an image", {"content": b"no image", "headers": raw}),
        (400, "cannot be read", {"content": noise_png()[:200], "headers": raw}),
        (400, "cannot be read", {"content": damaged_avif(), "headers": raw}),
        (413, "pixels", {"content": file.getvalue(), "headers": raw}),
        (413, "larger than", {"content": b"x" * 20_001, "headers": raw}),
        (400, "its format is unknown", {"content": eps.getvalue(), "headers": raw}),
        (400, "its format is unknown", {"content": icon.getvalue(), "headers": raw}),
        (
            400,
            "floats of unknown range; save them as integers",
            {"content": floats, "headers": raw},
        ),
        (415, "wanted application/json", {"content": b"x", "headers": text}),
    )
    for status, named, request in refused:
        answer = client.post("/predict", **request)
        assert (answer.status_code, named in answer.json()["error"]) == (status, True), answer.text
    answer = client.get("/predict")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert client.get("/nothing").status_code == 404
    answer = client.post("/predict", content=noise_png(), headers=raw)
    assert answer.status_code == 200


def test_server_refuses_too_many_requests_and_those_that_take_too_long(inference, limits):
    import httpx

    from mambavision_lab.server.app import make_app

    async def ask():
        app = make_app(inference, dataclasses.replace(limits, max_waiting=1, timeout_s=0.2))
        transport = httpx.ASGITransport(app)  # starts no worker: nothing is answered
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            raw = {"Content-Type": "image/png"}
            posts = (
                client.post("/predict", content=noise_png(), headers=raw, timeout=9)
                for _ in range(2)
            )
            answers = await asyncio.gather(*posts)
            return answers, (await client.get("/health")).json()

    answers, health = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [504, 503]
    assert "no answer within 0.2 s" in answers[0].json()["error"]
    assert "too many requests" in answers[1].json()["error"]
    assert health == {"status": "ok", "answered": 0, "refused": 2, "waiting": 0}


def test_limit_above_pillows_own_is_refused(refusal):
    from mambavision_lab.tasks.serve import serve

    least = dict.fromkeys(
        ("batch_size", "max_images", "max_megabytes", "max_waiting", "timeout_s", "top_k"), 1
    )
    cfg = OmegaConf.create({**least, "max_megapixels": 200})
    assert "max_megapixels=200: wanted at most 178" in refusal(lambda: serve(cfg))


def test_network_that_gives_nan_is_an_error_of_the_request(limits):
    from mambavision_lab.server.app import make_app

    broken = MambaVisionInference(STORED, device="cpu")
    next(broken.net.parameters()).data.fill_(torch.nan)
    with testclient.TestClient(make_app(broken, limits)) as client:
        answer = client.post("/predict", json={"image": base64.b64encode(noise_png()).decode()})
    assert (answer.status_code, "gives NaN" in answer.json()["error"]) == (500, True)


def test_body_that_is_too_large_is_read_to_its_end_but_not_kept(limits):
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    from mambavision_lab.server.images import read_body

    sent = [b"x" * limits.max_bytes] * 4
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in sent]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return messages.pop(0)

    request = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(HTTPException, match="larger than"):
        asyncio.run(read_body(request, limits.max_bytes))
    assert messages == []


def test_sweep_of_servers_is_refused(refusal):
    message = refusal(lambda: check("serve", "-m", f"from_run={STORED}", "port=0,1"))
    assert "serve.py runs until it is stopped" in message
