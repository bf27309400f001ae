"""Image messages to RGB pixels, straight into a buffer the caller owns."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array

Pixels = NDArray[np.uint8]

_CHANNELS = {
    "rgb8": 3,
    "bgr8": 3,
    "mono8": 1,
    "bayer_rggb8": 1,
    "bayer_bggr8": 1,
    "bayer_gbrg8": 1,
    "bayer_grbg8": 1,
}
# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's
# first two: ROS' rggb is OpenCV's BG.
_CONVERSIONS = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
}
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
SUPPORTED_ENCODINGS = tuple(_CHANNELS)


class ImageError(ValueError):
    """An image that cannot be used: what is wrong with it and what to do."""


@dataclass(frozen=True)
class EncodedImage:
    """One image as it came: `data` as received, `encoding` of the raw pixels or "compressed".

    `width`, `height` and `step` (bytes a row) are 0 for a compressed image.
    """

    data: memoryview | bytes | bytearray | NDArray[np.uint8]
    encoding: str
    width: int = 0
    height: int = 0
    step: int = 0


def check_raw(image: EncodedImage) -> str | None:
    """Why a raw image cannot be decoded, or None; looks at the header only, so it is cheap."""
    channels = _CHANNELS.get(image.encoding)
    if channels is None:
        return (
            f"encoding '{image.encoding}' is not supported: publish one of "
            f"{', '.join(SUPPORTED_ENCODINGS)} or a CompressedImage"
        )
    if image.step < image.width * channels:
        return f"step is {image.step} bytes, a row of {image.width} {image.encoding} pixels needs more"
    if len(image.data) < image.step * image.height:
        return (
            f"data holds {len(image.data)} bytes, {image.height} rows of {image.step} bytes need "
            f"{image.step * image.height}: the message is truncated"
        )
    return None


def jpeg_reduction(height: int, width: int, policy_height: int) -> int:
    """1, 2, 4 or 8: how many times smaller a JPEG is decoded. The decoder skips
    the finest frequencies, which saves most of its time, and three rows stay for each one that the
    policy resizes to."""
    for reduction in (8, 4, 2):
        whole = height % reduction == 0 and width % reduction == 0
        if whole and height // reduction >= 3 * policy_height:
            return reduction
    return 1


def reduced_intrinsics(intrinsics: Array, reduction: int) -> Array:
    """Intrinsics (3, 3) of an image made `reduction` times smaller; pixel centres at whole numbers."""
    reduced = intrinsics / reduction
    reduced[:2, 2] = (intrinsics[:2, 2] + 0.5) / reduction - 0.5
    reduced[2] = intrinsics[2]
    return reduced


def decode_into(image: EncodedImage, out: Pixels, reduction: int = 1) -> None:
    """Decodes to RGB into `out` (H, W, 3) uint8; a compressed image `reduction` times smaller.

    Raises ImageError when the encoding is unknown, the data is truncated or the size is not H x W.
    """
    if image.encoding == "compressed":
        _decode_compressed(image, out, reduction)
        return
    problem = check_raw(image)
    if problem:
        raise ImageError(problem)
    _check_size(image.width, image.height, out)
    channels = _CHANNELS[image.encoding]
    flat = np.frombuffer(image.data, dtype=np.uint8, count=image.step * image.height)
    rows = flat.reshape(image.height, image.step)[:, : image.width * channels]
    pixels = rows.reshape(image.height, image.width, channels) if channels == 3 else rows
    conversion = _CONVERSIONS.get(image.encoding)
    if conversion is None:
        np.copyto(out, pixels)
    else:
        cv2.cvtColor(np.ascontiguousarray(pixels), conversion, dst=out)


def _decode_compressed(image: EncodedImage, out: Pixels, reduction: int) -> None:
    buffer = np.frombuffer(image.data, dtype=np.uint8)
    # libjpeg fills what is missing with grey and only warns; a JPEG must end with its end marker.
    if buffer[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in buffer[-64:].tobytes():
        raise ImageError(f"JPEG of {buffer.size} bytes has no end marker: it is truncated")
    pixels = cv2.imdecode(buffer, _REDUCED[reduction]) if buffer.size else None
    if pixels is None:
        raise ImageError(f"{buffer.size} bytes could not be decoded: neither JPEG nor PNG")
    _check_size(pixels.shape[1], pixels.shape[0], out, reduction)
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=out)


def _check_size(width: int, height: int, out: Pixels, reduction: int = 1) -> None:
    if (height, width) != out.shape[:2]:
        raise ImageError(
            f"image is {width * reduction}x{height * reduction}, the first one of this camera set was "
            f"{out.shape[1] * reduction}x{out.shape[0] * reduction}: all cameras must keep one size"
        )
