"""What the JSON files of a run share: the types of their fields, reading them checked, and writing them whole."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thaw.features.errors import InputError
from thaw.features.files.atomic import write_whole

Fraction = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """The content of a file or a part of it: no unknown field, no converted type, no infinite number."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Content = TypeVar("Content", bound=Strict)


def json_text(content: Strict) -> str:
    """Return the text of a JSON file."""
    return content.model_dump_json(indent=2, by_alias=True) + "\n"


def write_json(path: Path, content: Strict) -> Path:
    """Write a JSON file whole and return its path."""
    with write_whole(path) as file:
        file.write(json_text(content))
    return path


def read_json(path: Path, kind: type[Content], remedy: str) -> Content | None:
    """Read and check a JSON file.

    Args:
        path: the file.
        kind: the class of its content.
        remedy: what to do if the file is damaged, for the message.

    Returns:
        The content, None if there is no file.

    Raises:
        InputError: if the file is damaged.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path} is damaged ({reason}); {remedy}") from None
