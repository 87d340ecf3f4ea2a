import io
import struct
import zlib

import numpy as np
import pytest

from w4rl_fast.errors import UserError
from w4rl_fast.report.png import encode_apng, encode_png
from w4rl_fast.report.text import CHAR_WIDTH, LINE_HEIGHT, draw_text, text_width

Image = pytest.importorskip("PIL.Image")


def pictures(count, height, width):
    """Noise, a ramp and a flat picture: together they use every filter."""
    noise = np.random.default_rng(height * width).integers(0, 256, (count, height, width, 3), np.uint8)
    noise[:, : height // 2] = np.arange(width * 3, dtype=np.uint8).reshape(width, 3)
    noise[:, :, width // 2 :] //= 32
    noise[1::2, height // 3 :] = 7
    return noise


def decode(payload):
    """Every frame and how long it shows, in ms."""
    picture = Image.open(io.BytesIO(payload))
    frames = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        frames.append((np.array(picture.convert("RGB")), picture.info.get("duration")))
    return picture, frames


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (13, 17), (64, 64), (33, 100)])
def test_decoding_gives_back_every_pixel(height, width):
    images = pictures(3, height, width)
    for image in images:
        np.testing.assert_array_equal(decode(encode_png(image))[1][0][0], image)
    picture, frames = decode(encode_apng(images, fps=20))
    assert picture.n_frames == 3
    assert picture.info["loop"] == 0
    for (frame, duration), image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame, image)
        assert duration == pytest.approx(50)


def test_each_filter_wins_somewhere_and_every_checksum_holds():
    ramp = np.add.outer(np.arange(40) * 5, np.arange(40) * 3).astype(np.uint8)
    image = np.concatenate([pictures(1, 40, 40)[0], np.stack([ramp, ramp.T, ramp * ramp], -1)])
    payload, at, chunks = encode_png(image), 8, {}
    while at < len(payload):
        (length,) = struct.unpack_from(">I", payload, at)
        kind, body = payload[at + 4 : at + 8], payload[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", payload, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(80, 121)
    assert set(rows[:, 0]) == {0, 1, 2, 4}
    assert len(payload) < image.size


def test_a_slow_and_an_odd_frame_rate_keep_their_length():
    images = pictures(2, 4, 4)
    assert decode(encode_apng(images, fps=0.5))[1][0][1] == pytest.approx(2000)
    assert decode(encode_apng(images, fps=29.97))[1][0][1] == pytest.approx(1000 / 29.97, rel=1e-3)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(UserError, match="a picture is uint8"):
        encode_png(image)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_senseless_frame_rate_is_refused(fps):
    with pytest.raises(UserError, match="frame rate"):
        encode_apng(pictures(2, 4, 4), fps=fps)


def ink(text, scale=1):
    image = np.zeros((LINE_HEIGHT * scale, max(1, len(text) * CHAR_WIDTH * scale), 3), np.uint8)
    draw_text(image, 0, 0, text, (255, 255, 255), scale)
    return image[..., 0] > 0


def test_every_glyph_has_its_own_shape():
    shapes = {ink(chr(code)).tobytes() for code in range(32, 127)} | {ink("é").tobytes()}
    assert len(shapes) == 96
    assert ink("é").tobytes() == ink("ß").tobytes()


def test_text_is_its_letters_side_by_side_enlarged_and_cut_at_the_edges():
    text = "seed 12: 18/20 (90.0%)"
    np.testing.assert_array_equal(ink(text), np.concatenate([ink(letter) for letter in text], axis=1))
    np.testing.assert_array_equal(ink(text, 3), ink(text).repeat(3, 0).repeat(3, 1))
    assert text_width(text, 3) == ink(text, 3).shape[1] - 3
    whole = np.zeros((40, 60, 3), np.uint8)
    draw_text(whole, 20, 20, "Wg", (9, 8, 7), 2)
    for x, y in [(-7, 3), (55, 35), (3, -5), (-100, 0), (0, 100), (60, 40)]:
        image = np.zeros((40, 60, 3), np.uint8)
        draw_text(image, x, y, "Wg", (9, 8, 7), 2)
        padded = np.zeros((400, 400, 3), np.uint8)
        draw_text(padded, x + 200, y + 200, "Wg", (9, 8, 7), 2)
        np.testing.assert_array_equal(image, padded[200:240, 200:260])
