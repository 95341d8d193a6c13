"""The record inside `model.skops` and `model.json`: what labelling needs to know of the training, checked when read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from thaw.features.errors import InputError
from thaw.features.images.aspect import check_aspect
from thaw.features.images.preprocess import NORMALIZATIONS, RESIZES, is_normalization
from thaw.pipeline.run.report_json import StrategyName
from thaw.pipeline.run.schema import Count, Digest, Name

Side = Annotated[int, Field(ge=1, le=100_000)]


class ModelRecord(BaseModel):
    """The fields of the record; it may hold more, for people."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    model_version: int
    strategy: StrategyName
    backbone: Name
    weights: Name
    weights_sha256: Digest
    seed: Count
    layer: str | None
    class_names: list[str] = Field(min_length=1)
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


NEEDED = tuple(name for name, field in ModelRecord.model_fields.items() if field.is_required())


def invalid_field(record: dict[str, Any]) -> str | None:
    """Return the name of the record's first invalid field and what is wrong with it, None if all are valid."""
    try:
        ModelRecord.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {' '.join(first['msg'].split())}"
    return None
