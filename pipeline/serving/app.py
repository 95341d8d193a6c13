"""The local page and its JSON API: one image as the body of a request -> its label, as a FastAPI application."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import ClientDisconnect

from thaw.features.errors import InputError, shown
from thaw.pipeline.config import Serve
from thaw.pipeline.inference.classifier import Classifier
from thaw.pipeline.inference.similar_images import MOST_NEIGHBOURS, Nearest
from thaw.pipeline.inference.writers import Answer
from thaw.pipeline.serving.access import Buckets, Gate, matches
from thaw.pipeline.serving.api_schema import Health, Model, Neighbour, Prediction, Share, problems
from thaw.pipeline.serving.batching import Labelled, Labeller
from thaw.pipeline.serving.page import page

ACCEPTED = ("application/octet-stream", "image/*")
MAX_AT_ONCE = 16  # requests that are read or wait for their label, so that memory stays bounded
UPLOAD_SECONDS = 30.0
MAX_TOP = 100

router = APIRouter()


class Service:
    """The things that requests share: the model, the rate limit, and a limited number of requests at once."""

    def __init__(self, classifier: Classifier, nearest: Nearest | None, settings: Serve):
        self.labeller = Labeller(classifier, nearest, settings.max_pixels)
        self.model = Model.of(classifier, settings, nearest is not None)
        self.buckets = Buckets(settings.rate, 2 * settings.rate)
        self.settings, self.free = settings, asyncio.Semaphore(MAX_AT_ONCE)


def create_app(classifier: Classifier, nearest: Nearest | None, settings: Serve) -> FastAPI:
    """Return the application; it writes no file, and keeps nothing of an image after its answer."""
    service = Service(classifier, nearest, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.labeller.close()

    app = FastAPI(
        title="Thaw",
        summary="Labels images with a trained classifier.",
        version="1",
        lifespan=life,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(Gate, host=settings.host)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(Exception, _program_error)
    app.include_router(router)
    return app


def _service(request: Request) -> Service:
    return request.app.state.service


@router.get("/", include_in_schema=False)
async def show_page(request: Request) -> HTMLResponse:
    """Return the page, which may run its own script alone."""
    nonce, service = secrets.token_urlsafe(16), _service(request)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    content = page(service.model, str(request.base_url), nonce)
    return HTMLResponse(content, headers={"content-security-policy": policy})


@router.get("/healthz", responses=problems(403))
async def health() -> Health:
    """Say that the server answers."""
    return Health(status="ok")


@router.get("/api/model", responses=problems(403))
async def describe_model(request: Request) -> Model:
    """Describe the model: its classes, its accuracy on test images with the 95 % interval, and the limits."""
    return _service(request).model


_BODY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}


@router.post(
    "/api/predict",
    responses=problems(400, 403, 408, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(ACCEPTED, _BODY)}},
)
async def predict(
    request: Request,
    top: Annotated[int, Query(ge=1, le=MAX_TOP, description="how many classes to name, the most probable first")] = 3,
    neighbours: Annotated[int, Query(ge=0, le=MOST_NEIGHBOURS, description="how many training images to show")] = 3,
) -> Prediction:
    """Label one image, which is the body of the request: JPEG, PNG, GIF, BMP, TIFF, WebP, JPEG 2000, AVIF or PNM."""
    began, service = time.perf_counter(), _service(request)
    _check_sender(request, service)
    if service.free.locked():
        detail = f"{MAX_AT_ONCE} images are being labelled already; send this one again in a second"
        raise HTTPException(503, detail, {"retry-after": "1"})
    async with service.free:
        body = await _read_body(request, service.settings.max_bytes)
        try:
            labelled = await service.labeller.label(body)
        except InputError as error:
            raise HTTPException(400, str(error)) from None
        likenesses = labelled.likenesses[:neighbours]
        thumbnails = await service.labeller.thumbnails(likenesses)
    pairs = zip(likenesses, thumbnails, strict=True)
    found = [Neighbour(**likeness._asdict(), thumbnail=thumbnail) for likeness, thumbnail in pairs]
    return _answer(service, labelled, top, found, time.perf_counter() - began)


def _answer(service: Service, labelled: Labelled, top: int, found: list[Neighbour], seconds: float) -> Prediction:
    answer = Answer(Path(), labelled.probabilities, service.settings.reject)
    shares = [Share(label=name, probability=p) for name, p in answer.best(service.model.classes, top)]
    label = shares[0].label if answer.status == "ok" else None
    return Prediction(status=answer.status, label=label, top=shares, neighbours=found, seconds=seconds)


def _check_sender(request: Request, service: Service) -> None:
    """Raise 429 if the sender sends too often, 415 if the Content-Type is not that of an image."""
    if wait := service.buckets.wait(request.client.host if request.client else ""):
        detail = f"more than {service.settings.rate:g} images a second; send this one again in {wait} s"
        raise HTTPException(429, detail, {"retry-after": str(wait)})
    kind = request.headers.get("content-type", "")
    if not matches(kind, ACCEPTED):
        received = f"received {shown(kind[:80])}" if kind else "received no Content-Type"
        expected = "expected image/... or application/octet-stream, and the image itself as the body, in no form"
        raise HTTPException(415, f"{received}; {expected}")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body; raises 413 if it is too long, by its header or when it is read, 400 if it is empty."""
    too_long = HTTPException(413, f"the image has more than {max_bytes / 1e6:g} MB, which is what is accepted")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                if len(body) + len(chunk) > max_bytes:
                    raise too_long
                body += chunk
    except TimeoutError:
        raise HTTPException(408, f"the image did not arrive within {UPLOAD_SECONDS:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the image broke off") from None
    if not body:
        raise HTTPException(400, "the body is empty; expected the bytes of one image")
    return bytes(body)


async def _wrong_parameter(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    name, received = first["loc"][-1], shown(repr(first["input"])[:80])
    return JSONResponse({"detail": f"{name} received {received}: {first['msg'].lower()}"}, 422)


async def _program_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"the program failed ({type(error).__name__}); its terminal says more"}, 500)
