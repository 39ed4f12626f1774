"""What the service answers, as `/openapi.json` describes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from invad.predict.regions import Region


class Parameters(BaseModel):
    """Of /predict. Others are refused: they would leave an answer that was not asked for."""

    model_config = ConfigDict(extra="forbid")
    heatmap: bool = Field(default=False, description="Add the picture of the map.")
    class_name: str | None = Field(default=None, alias="class", description="Whose thresholds to use.")


class ErrorAnswer(BaseModel):
    """Why a request was refused or failed."""

    error: str


class _Aliased(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)


class PredictionAnswer(_Aliased):
    """What the model says of the image."""

    score: float = Field(description="Of no fixed range, larger where more anomalous.")
    image_threshold: float | None = Field(description="What the score is compared with; null without calibration.")
    anomalous: bool | None = Field(description="Whether the score lies above the image threshold; null without one.")
    pixel_threshold: float | None = Field(description="What the map is compared with to find regions.")
    regions: list[Region] = Field(description="The highest score first; none without a pixel threshold.")
    width: int = Field(description="Of the image, in pixels.")
    height: int = Field(description="Of the image, in pixels.")
    model: str
    class_name: str | None = Field(alias="class", description="Whose thresholds were used; null: of all together.")
    heatmap: str | None = Field(
        default=None,
        description="With `?heatmap=true`: the map over the image, a PNG of at most a megapixel, as base64.",
    )


class HealthAnswer(_Aliased):
    """The service and its model."""

    status: Literal["ok", "draining"] = Field(description="`draining`, with status 503, while it is shutting down.")
    model: str
    version: str = Field(description="Of invad.")
    device: str
    image_size: int = Field(description="The side in pixels of the square that images are resized to.")
    classes: list[str] = Field(description="That `?class=` can name.")
    class_name: str | None = Field(alias="class", description="Whose thresholds are used if a request names none.")
    limits: dict[str, int | tuple[str, ...]] = Field(description="What a client may send.")
