"""The answers of the JSON API, as its OpenAPI schema describes them."""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from thaw.pipeline.config import PATH_KINDS, Serve
from thaw.pipeline.inference.classifier import Classifier

Fraction = Field(ge=0, le=1)


class Problem(BaseModel):
    """The error of a request, in one line."""

    detail: str


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"]


class Share(BaseModel):
    """A class and its probability."""

    label: str
    probability: float = Fraction


class Neighbour(BaseModel):
    """A training image, its similarity to the image that was sent (a cosine), and its thumbnail as a data URL."""

    id: str
    label: str
    similarity: float = Field(ge=-1, le=1)
    thumbnail: str | None


class Prediction(BaseModel):
    """The labels of an image; `label` is null if the model is unsure."""

    status: str = Field(pattern="^(ok|unsure)$")
    label: str | None
    top: list[Share]
    neighbours: list[Neighbour]
    seconds: float = Field(ge=0)


class Limits(BaseModel):
    """What is accepted: bytes and pixels of an image, images a second from one address."""

    max_bytes: int
    max_pixels: int
    rate: float


class Model(BaseModel):
    """The model that is served; its accuracy is the share of `num_test` test images that it labels correctly."""

    name: str
    strategy: str
    dataset: str
    classes: list[str]
    accuracy: float = Fraction
    accuracy_ci95: list[float] = Field(min_length=2, max_length=2)
    num_test: int
    reject: float | None
    image_size: int | str | None
    has_neighbours: bool
    limits: Limits

    @classmethod
    def of(cls, classifier: Classifier, settings: Serve, has_neighbours: bool) -> Self:
        """Describe a classifier; only the last part of its dataset's path is shown, since others may read it."""
        report = classifier.report
        kind, separator, path = report.dataset.partition(":")
        dataset = f"{kind}:{path.rpartition('/')[2]}" if separator and kind in PATH_KINDS else report.dataset
        own = {name: getattr(report, name) for name in ("name", "strategy", "accuracy", "accuracy_ci95", "num_test")}
        limits = Limits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels, rate=settings.rate)
        return cls(
            **own,
            dataset=dataset,
            classes=classifier.class_names,
            reject=settings.reject,
            image_size=classifier.report.image_size,
            has_neighbours=has_neighbours,
            limits=limits,
        )


_MEANINGS = {
    400: "Not an image that can be read: of another kind, damaged, empty, or of too many pixels.",
    403: "Another Host than the page's own, or a request of another site's page.",
    408: "The image took too long to arrive.",
    413: "More bytes than are accepted.",
    415: "A Content-Type that is no image's.",
    422: "A parameter that is not as described.",
    429: "Too many requests from this address; `Retry-After` says when to come again.",
    503: "Too many requests at once; `Retry-After` says when to come again.",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of the statuses that a path may answer with beside 200."""
    return {code: {"model": Problem, "description": _MEANINGS[code]} for code in codes}
