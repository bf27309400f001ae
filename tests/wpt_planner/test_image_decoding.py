import cv2
import numpy as np
import pytest

from wpt_planner.image_decoding import (
    EncodedImage,
    ImageError,
    decode_into,
    jpeg_reduction,
    reduced_intrinsics,
)

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 200


def decoded(image: EncodedImage, shape=(4, 6, 3)) -> np.ndarray:
    out = np.full(shape, 7, np.uint8)
    decode_into(image, out)
    return out


def raw(pixels: np.ndarray, encoding: str, padding: int = 0) -> EncodedImage:
    rows = pixels.reshape(pixels.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)))
    return EncodedImage(padded.tobytes(), encoding, pixels.shape[1], pixels.shape[0], padded.shape[1])


@pytest.mark.parametrize(("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0])])
@pytest.mark.parametrize("padding", [0, 5])
def test_colour_images_become_rgb(encoding, order, padding):
    assert np.array_equal(decoded(raw(RED[..., order], encoding, padding)), RED)


def test_grey_images_have_three_equal_channels():
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert np.array_equal(decoded(raw(grey, "mono8")), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("encoding", "red_at"),
    [("bayer_rggb8", (0, 0)), ("bayer_bggr8", (1, 1)), ("bayer_gbrg8", (1, 0)), ("bayer_grbg8", (0, 1))],
)
def test_a_red_scene_through_each_bayer_pattern_is_red(encoding, red_at):
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    pixels = decoded(raw(mosaic, encoding), (8, 8, 3))[2:6, 2:6]
    assert pixels[..., 0].min() > 150
    assert pixels[..., 1:].max() == 0


def test_jpeg_and_png_are_decoded():
    for extension in (".png", ".jpg"):
        data = cv2.imencode(extension, np.ascontiguousarray(RED[..., ::-1]))[1].tobytes()
        assert np.abs(decoded(EncodedImage(data, "compressed")).astype(int) - RED).max() < 6


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (EncodedImage(bytes(96), "yuv422", 6, 4, 12), "yuv422"),
        (EncodedImage(bytes(70), "rgb8", 6, 4, 18), "truncated"),
        (EncodedImage(bytes(72), "rgb8", 6, 4, 12), "step"),
        (EncodedImage(bytes(54), "rgb8", 6, 3, 18), "6x3"),
        (EncodedImage(b"", "compressed"), "could not be decoded"),
        (EncodedImage(b"nothing", "compressed"), "could not be decoded"),
    ],
)
def test_an_image_that_cannot_be_used_says_why(image, said):
    with pytest.raises(ImageError, match=said):
        decoded(image)


def test_a_truncated_jpeg_is_refused_not_half_grey():
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    with pytest.raises(ImageError, match="truncated"):
        decoded(EncodedImage(data[: len(data) // 2], "compressed"), (40, 60, 3))


@pytest.mark.parametrize(
    ("size", "policy_rows", "reduction"),
    # 900 / 2 = 450 rows are enough for 3 x 96, 900 / 4 = 225 are not; 902 cannot be quartered.
    [
        ((900, 1600), 96, 2),
        ((900, 1600), 32, 4),
        ((902, 1600), 32, 2),
        ((900, 1600), 400, 1),
        ((36, 64), 32, 1),
    ],
)
def test_a_jpeg_is_made_smaller_only_as_far_as_the_policy_allows(size, policy_rows, reduction):
    assert jpeg_reduction(*size, policy_rows) == reduction


def test_a_reduced_jpeg_shows_the_same_scene_and_its_intrinsics_the_same_rays():
    step = np.zeros((32, 64, 3), np.uint8)
    step[:, 32:, 0] = 200  # red from column 32 on: the edge lies at u = 31.5
    data = cv2.imencode(".jpg", step[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    out = np.zeros((16, 32, 3), np.uint8)
    decode_into(EncodedImage(data, "compressed"), out, 2)
    assert out[:, :15, 0].max() < 30
    assert out[:, 17:, 0].min() > 170
    intrinsics = np.array([[40.0, 0, 31.5], [0, 40, 17.5], [0, 0, 1]])
    # u + 1/2 halves: the edge, on the optical axis, lies at (31.5 + 0.5) / 2 - 0.5 = 15.5.
    reduced = reduced_intrinsics(intrinsics, 2)
    assert np.allclose(reduced, [[20, 0, 15.5], [0, 20, 8.5], [0, 0, 1]])


def test_a_reduced_jpeg_of_a_wrong_size_is_reported_in_full_pixels():
    data = cv2.imencode(".jpg", np.zeros((16, 48, 3), np.uint8))[1]
    with pytest.raises(ImageError, match="image is 48x16, the first one of this camera set was 64x32"):
        decode_into(EncodedImage(data, "compressed"), np.zeros((16, 32, 3), np.uint8), 2)
