"""What a setting of stage 3 may be: types and bounds of its fields, with the words for a message."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from network import BACKBONES, CAFFE_RESNET101, TIMM, is_backbone
from tool.lists import id_problem

MAX_RATE, MAX_STEPS = 1e30, 10**9  # what float32 holds, ten and twenty times too; what anybody could want
BACKBONES_OF_STAGE_3 = (*BACKBONES, CAFFE_RESNET101)
RELEASED_BACKBONES = {"resnet38": "resnet38d"}  # names that users of PPC's configurations type, with ours


def at_least(low: int) -> Any:
    """A field's lower bound, with the words that follow its type's in a message; so are those below."""
    return Field(ge=low, description=f"of at least {low}")


def above(low: float, *, at_most: float) -> Any:
    return Field(gt=low, le=at_most, description=f"above {low}, at most {at_most:g}")


def between(low: float, high: float) -> Any:
    """Both bounds included."""
    return Field(ge=low, le=high, description=f"from {low} to {high}")


def only(value: int, reason: str) -> Any:
    return Field(ge=value, le=value, description=f"that is {value} ({reason})")


def _file_name(text: str) -> str:
    if id_problem(text) is not None:
        raise ValueError(text)
    return text


def _backbone(name: str) -> str:
    name = RELEASED_BACKBONES.get(name, name)
    if not is_backbone(name) and name != CAFFE_RESNET101:
        raise ValueError(name)
    return name


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(bounds)
    return bounds


FileName = Annotated[
    str, AfterValidator(_file_name), Field(description="that is a plain name, as it becomes part of a path")
]
Backbone = Annotated[
    str,
    AfterValidator(_backbone),
    Field(description=f"that is one of {', '.join(BACKBONES_OF_STAGE_3)}, or {TIMM}NAME"),
]
Share = Annotated[float, between(0, 1)]
Deviation = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(gt=0, le=8)]
Bounds = Annotated[tuple[Scale, Scale], AfterValidator(_ascending)]
