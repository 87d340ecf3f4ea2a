"""Pictures and moving pictures as PNG and animated PNG, by the standard library alone."""

import struct
import zlib
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.errors import UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """One picture, losslessly; image (H, W, 3)."""
    _check(image, "(H, W, 3)", 3)
    return _SIGNATURE + _header(image) + _chunk(b"IDAT", _compress(image)) + _chunk(b"IEND", b"")


def encode_apng(frames: NDArray[np.uint8], *, fps: float) -> bytes:
    """A picture that moves for ever, losslessly; frames (N, H, W, 3), fps in frames per second."""
    _check(frames, "(N, H, W, 3)", 4)
    if not 0.02 <= fps <= 1000:
        raise UserError(f"fps {fps}", rule="a frame rate lies in [0.02, 1000] Hz", remedy="Choose one, for example 10.")
    delay = (1 / Fraction(fps)).limit_denominator(1000)
    parts = [_SIGNATURE, _header(frames[0]), _chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    sequence = 0
    for index, frame in enumerate(frames):
        parts.append(_chunk(b"fcTL", _frame_control(sequence, frame, delay)))
        sequence += 1
        if index == 0:
            parts.append(_chunk(b"IDAT", _compress(frame)))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", sequence) + _compress(frame)))
            sequence += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _check(pixels: NDArray[np.uint8], shape: str, dimensions: int) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != dimensions or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise UserError(
            f"a picture of {pixels.dtype} {pixels.shape}",
            rule=f"a picture is uint8 {shape} and not empty",
            remedy="Convert it first.",
        )


def _header(image: NDArray[np.uint8]) -> bytes:
    height, width, _ = image.shape
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _frame_control(sequence: int, frame: NDArray[np.uint8], delay: Fraction) -> bytes:
    """A frame of full size that replaces the one before; delay in seconds."""
    height, width, _ = frame.shape
    return struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, delay.numerator, delay.denominator, 0, 0)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _compress(image: NDArray[np.uint8]) -> bytes:
    """Filter each row by whichever of None, Sub, Up and Paeth leaves the smallest residuals, then deflate."""
    height, width, _ = image.shape
    here = image.reshape(height, width * 3)
    left, above, corner = (np.zeros_like(here) for _ in range(3))
    left[:, 3:], above[1:], corner[1:, 3:] = here[:, :-3], here[:-1], here[:-1, :-3]
    residuals = np.stack([here, here - left, here - above, here - _paeth(left, above, corner)])
    cost = np.abs(residuals.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    kinds = np.array([0, 1, 2, 4], np.uint8)[best]
    rows = residuals[best, np.arange(height)]
    return zlib.compress(np.concatenate([kinds[:, None], rows], axis=1).tobytes(), 6)


def _paeth(left: NDArray[np.uint8], above: NDArray[np.uint8], corner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whichever neighbour is nearest to left + above - corner; ties go to left, then above."""
    a, b, c = (neighbour.astype(np.int16) for neighbour in (left, above, corner))
    to_left, to_above, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
