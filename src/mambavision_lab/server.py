"""Serve a network over HTTP: images in, classes and probabilities out, several requests in one batch.

A web server in one process: images are decoded in threads, and one thread runs the network on all that wait.
Each request fails or succeeds by itself.
"""

import asyncio
import base64
import binascii
import io
import logging
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from torch import Tensor

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.models.ranking import Ranking

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What the server takes.

    Attributes:
        max_bytes: Of one request's body.
        max_pixels: Of one image.
        max_waiting: Requests that wait for the network; more are refused.
        timeout_s: Seconds from a whole request to its answer.
        batch_size: Images that go through the network at once.
        top_k: Classes of one answer.
        threshold: Of a network for several labels, the least probability.
    """

    max_bytes: int
    max_pixels: int
    max_waiting: int
    timeout_s: float
    batch_size: int
    top_k: int
    threshold: float


class Batches:
    """Run the network on all images that wait, at most a batch at once, while others are decoded.

    Args:
        run: Maps prepared pixels (N, C, H, W) to N answers.
        batch_size: The most of them.
        max_waiting: How many may wait.
    """

    def __init__(
        self, run: Callable[[Tensor], list[Ranking]], batch_size: int, max_waiting: int
    ) -> None:
        self._run, self._batch_size = run, batch_size
        self._waiting: asyncio.Queue[tuple[Tensor, asyncio.Future[Ranking]]] = asyncio.Queue(
            max_waiting
        )

    async def answer(self, pixels: Tensor) -> Ranking:
        """Return the answer to one image.

        Raises:
            asyncio.QueueFull: Too many wait.
        """
        future: asyncio.Future[Ranking] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((pixels, future))
        return await future

    async def run_forever(self) -> None:
        """Answer, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as network:
            while True:
                taken = [await self._waiting.get()]
                while len(taken) < self._batch_size and not self._waiting.empty():
                    taken.append(self._waiting.get_nowait())
                wanted = [(pixels, future) for pixels, future in taken if not future.done()]
                if not wanted:
                    continue
                pixels = torch.stack([one for one, _ in wanted])
                try:
                    answers = await loop.run_in_executor(network, self._run, pixels)
                except Exception as error:
                    log.exception("the network failed")
                    for _, future in wanted:
                        if not future.done():
                            future.set_exception(RuntimeError(reason(error)))
                    continue
                for (_, future), answer in zip(wanted, answers, strict=True):
                    if not future.done():  # cancelled by its timeout
                        future.set_result(answer)


def make_app(inference: MambaVisionInference, limits: Limits) -> Starlette:
    """Make the application: POST /predict, GET /health, GET /info."""
    batches = Batches(
        lambda pixels: inference.rank(pixels, limits.top_k, limits.threshold),
        limits.batch_size,
        limits.max_waiting,
    )
    counts = {"answered": 0, "refused": 0}

    async def predict(request: Request) -> JSONResponse:
        body = await _read_body(request, limits.max_bytes)
        content = await _image_in(request, body)

        async def answer() -> Ranking:
            pixels = await asyncio.to_thread(_prepare, inference, content, limits.max_pixels)
            return await batches.answer(pixels)

        try:
            ranking = await asyncio.wait_for(answer(), limits.timeout_s)
        except asyncio.QueueFull:
            raise HTTPException(503, "too many requests wait; try again later") from None
        except asyncio.TimeoutError:
            raise HTTPException(504, f"no answer within {limits.timeout_s:g} s") from None
        except RuntimeError as error:
            raise HTTPException(500, f"the network failed: {error}") from None
        counts["answered"] += 1
        return JSONResponse({"classes": [{"class": c, "probability": p} for c, p in ranking]})

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", **counts})

    async def info(request: Request) -> JSONResponse:
        described = {key: inference.description.get(key) for key in ("name", "class_names")}
        return JSONResponse({**described, "image_size": inference.image_size})

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        counts["refused"] += 1
        return JSONResponse({"error": error.detail}, error.status_code)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(batches.run_forever())
        yield
        worker.cancel()

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/info", info),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: refuse})


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body, but no more than max_bytes."""
    too_large = HTTPException(413, f"the request is larger than {max_bytes:,} bytes")
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large
    except ClientDisconnect:
        raise HTTPException(400, "the request ended early") from None
    return bytes(body)


async def _image_in(request: Request, body: bytes) -> bytes:
    """Find the image in a body: JSON with base64, a form with a file, or the file itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        wanted = 'wanted JSON such as {"image": "BASE64 OF THE FILE"}'
        try:
            given: Any = await _again(request, body).json()
            return base64.b64decode(given["image"], validate=True)
        except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
            raise HTTPException(400, wanted) from None
    if kind == "multipart/form-data":
        async with _again(request, body).form(max_files=1, max_fields=4) as form:
            file: Any = form.get("image")
            if not hasattr(file, "read"):
                raise HTTPException(400, "wanted a form with a file named image")
            return bytes(await file.read())
    if kind.startswith("image/") or kind == "application/octet-stream":
        return body
    raise HTTPException(
        415, "wanted application/json, multipart/form-data, or an image as image/..."
    )


def _again(request: Request, body: bytes) -> Request:
    """Return the request with its body unread."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _prepare(inference: MambaVisionInference, content: bytes, max_pixels: int) -> Tensor:
    """Decode and prepare an image as predict.py does; its size is known before it is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise HTTPException(413, f"the image has more than {max_pixels:,} pixels") from None
    except (OSError, ValueError, SyntaxError, TypeError):
        raise HTTPException(400, "this cannot be read as an image") from None
    if width * height > max_pixels:
        raise HTTPException(
            413, f"the image has {width} x {height} pixels, more than {max_pixels:,}"
        )
    try:
        return inference.prepare(content)
    except ConfigError as error:
        raise HTTPException(400, reason(error)) from None
