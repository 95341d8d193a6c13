"""The record inside `model.skops` and `model.json`: what labelling needs to know of the training, checked when read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from thaw.features.errors import InputError
from thaw.features.images.aspect import check_aspect
from thaw.features.images.preprocess import NORMALIZATIONS, RESIZES, is_normalization
from thaw.pipeline.run.report_json import StrategyName
from thaw.pipeline.run.schema import Count, Digest, Name

Side = Annotated[int, Field(ge=1, le=100_000)]


class SetRecord(BaseModel):
    """A feature set: the network, how images become its input, and the layers that the model takes."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    backbone: Name
    weights: Name
    weights_sha256: Digest
    seed: Count
    layer: str | None
    image_size: Side
    resize: str = Field(pattern=f"^({'|'.join(RESIZES)})$")
    aspect: Literal["squash", "crop", "pad"]
    normalize: str
    pooling: str
    feature_views: Literal["one", "flip"] = "one"
    dtype: Literal["float32", "float16"]
    decoding: int
    views: Literal[1, 2]
    engine: Literal["keras", "mnn", "onnxruntime"]
    engine_layers: list[str]
    engine_precision: Literal["float32", "bfloat16", "float16"]
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    white: Annotated[float, Field(gt=0)] | None = None

    @field_validator("aspect")
    @classmethod
    def _keeps_proportions(cls, aspect: str, info: ValidationInfo) -> str:
        try:
            check_aspect(aspect, info.data.get("resize", "bilinear"))
        except InputError as error:
            raise ValueError(str(error)) from None
        return aspect

    @field_validator("normalize")
    @classmethod
    def _known(cls, method: str) -> str:
        if not is_normalization(method):
            raise ValueError(f"expected {', '.join(NORMALIZATIONS)}, or means and deviations")
        return method


class ModelRecord(SetRecord):
    """The fields of the record; it may hold more, for people."""

    model_version: int
    strategy: StrategyName
    class_names: list[str] = Field(min_length=1)


class JoinedRecord(BaseModel):
    """The fields of the record of a model on the layers of several sets, side by side; it may hold more."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    model_version: int
    strategy: StrategyName
    class_names: list[str] = Field(min_length=1)
    layer: Name
    sets: list[SetRecord] = Field(min_length=2)


class Member(BaseModel):
    """A classifier of an ensemble: the result's name, its feature sets and layers, its model's file and the digest."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(pattern=r"^[^/\\.\x00][^/\\\x00]*$")  # of a folder beside the ensemble's
    features: Name
    layer: Name
    model: Literal["model.skops"]
    sha256: Digest


class UsedNetwork(BaseModel):
    """A frozen network below an ensemble, for the licences of its weights."""

    model_config = ConfigDict(strict=True, extra="forbid")

    backbone: Name
    image_size: Side
    weights: Name
    weights_sha256: Digest


class EnsembleRecord(BaseModel):
    """The fields of an ensemble's record; it may hold more, for people."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    model_version: int
    strategy: StrategyName
    class_names: list[str] = Field(min_length=1)
    members: list[Member] = Field(min_length=2)
    networks: list[UsedNetwork] = Field(min_length=1)


RecordKind = type[ModelRecord] | type[JoinedRecord] | type[EnsembleRecord]


def needed(kind: RecordKind) -> tuple[str, ...]:
    """Return the names of the fields that a record must have."""
    return tuple(name for name, field in kind.model_fields.items() if field.is_required())


NEEDED = needed(ModelRecord)


def invalid_field(record: dict[str, Any], kind: RecordKind = ModelRecord) -> str | None:
    """Return the name of the record's first invalid field and what is wrong with it, None if all are valid."""
    try:
        kind.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {' '.join(first['msg'].split())}"
    return None
