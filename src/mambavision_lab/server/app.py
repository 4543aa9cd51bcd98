"""The web application: POST /predict, GET /health, GET /info.

One process: large images are decoded in threads, and one thread runs the network on all that wait. Each
request fails or succeeds by itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.models.ranking import Ranking
from mambavision_lab.server.batches import Batches, NetworkError
from mambavision_lab.server.images import files_in, prepare_all, read_body


@dataclass(frozen=True)
class Limits:
    """What the server takes.

    Attributes:
        max_images: Of one request.
        max_bytes: Of one request's body.
        max_pixels: Of one image.
        max_waiting: Requests that are read, decoded or wait for the network; more are refused.
        timeout_s: Seconds from the head of a request to its answer.
        batch_size: Images that go through the network at once.
        batch_wait_ms: How long a batch waits to become as large as the one before.
        top_k: Classes of one answer.
        threshold: Of a network for several labels, the least probability.
    """

    max_images: int
    max_bytes: int
    max_pixels: int
    max_waiting: int
    timeout_s: float
    batch_size: int
    batch_wait_ms: float
    top_k: int
    threshold: float


def make_app(inference: MambaVisionInference, limits: Limits) -> Starlette:
    """Make the application: POST /predict, GET /health, GET /info."""
    batches = Batches(
        lambda pixels: inference.rank(pixels, limits.top_k, limits.threshold),
        limits.batch_size,
        limits.batch_wait_ms / 1e3,
    )
    counts = {"answered": 0, "refused": 0, "waiting": 0}

    async def answer(request: Request) -> dict[str, Any]:
        body = await read_body(request, limits.max_bytes)
        files, is_list = await files_in(request, body, limits.max_images)
        pixels, has_stack = await prepare_all(
            inference, files, limits.max_images, limits.max_pixels
        )
        found = [_listed(ranking) for ranking in await batches.answer(pixels)]
        return {"images": found} if is_list or has_stack else found[0]

    async def predict(request: Request) -> JSONResponse:
        if counts["waiting"] >= limits.max_waiting:
            raise HTTPException(503, "too many requests wait; try again later")
        counts["waiting"] += 1
        try:
            content = await asyncio.wait_for(answer(request), limits.timeout_s)
        except asyncio.TimeoutError:
            raise HTTPException(504, f"no answer within {limits.timeout_s:g} s") from None
        except NetworkError as error:
            raise HTTPException(500, f"the network failed: {error}") from None
        finally:
            counts["waiting"] -= 1
        counts["answered"] += 1
        return JSONResponse(content)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", **counts})

    async def info(request: Request) -> JSONResponse:
        described = {key: inference.description.get(key) for key in ("name", "class_names")}
        sides = {"image_size": inference.image_size, "in_chans": inference.in_chans}
        return JSONResponse({**described, **sides, "max_images": limits.max_images})

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        counts["refused"] += 1
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

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


def _listed(ranking: Ranking) -> dict[str, Any]:
    return {"classes": [{"class": name, "probability": p} for name, p in ranking]}
