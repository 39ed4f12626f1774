"""The work of the picture threads: from the bytes of a body to pixels, and from a prediction to the bytes of an answer."""

import base64
from io import BytesIO

from fastapi import HTTPException
from PIL import Image

from invad.config import AS_STORED, ReadingConfig
from invad.data.images import TooManyPixelsError, image_of_bytes
from invad.errors import InputError
from invad.predict.inputs import PreparedImage, prepared
from invad.predict.overlay import draw_overlay, overlay_picture
from invad.predict.predictions import ImagePrediction
from invad.predict.serve.answers import PredictionAnswer
from invad.predict.serve.limits import image_of_form


def decode(
    body: bytes, content_type: str, size: int, max_pixels: int, heatmap: bool, reading: ReadingConfig = AS_STORED
) -> tuple[PreparedImage, Image.Image | None]:
    """Return a body of a content type as a network takes it that has images of (size, size), and what its heat map needs.

    Raises:
        HTTPException: 400 for a form that is not one image; 413 for too many pixels, before they are decoded; 422 for what is not an
            image that can be read.
    """
    try:
        picture = image_of_bytes(image_of_form(body, content_type), "image", max_pixels, reading)
    except InputError as error:
        raise HTTPException(413 if isinstance(error, TooManyPixelsError) else 422, str(error)) from None
    return prepared(picture, size), overlay_picture(picture) if heatmap else None


def answer(prediction: ImagePrediction, picture: Image.Image | None, model: str, class_name: str | None) -> bytes:
    """Return a `PredictionAnswer` as JSON, with a heat map where there is a picture to draw it on."""
    regions, heatmap = prediction.regions(), None
    if picture is not None:
        buffer = BytesIO()
        # The words below the picture are numbers of the answer.
        overlay = draw_overlay(picture, prediction).crop((0, 0, *picture.size))
        overlay.save(buffer, "PNG", compress_level=1)  # of a megapixel in a quarter of the time, 1.3 times as large
        heatmap = base64.b64encode(buffer.getvalue()).decode("ascii")
    whole = PredictionAnswer(
        score=prediction.score,
        image_threshold=prediction.thresholds.image,
        anomalous=prediction.anomalous,
        pixel_threshold=prediction.thresholds.pixel,
        regions=regions,
        width=prediction.width,
        height=prediction.height,
        model=model,
        class_name=class_name,
        heatmap=heatmap,
    )
    return whole.model_dump_json().encode()
