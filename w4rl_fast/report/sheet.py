"""Episodes as pictures: a contact sheet to look at, an animation to watch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from w4rl_fast.data.episode import Episode
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.report.png import encode_apng, encode_png
from w4rl_fast.report.text import LINE_HEIGHT, draw_text, text_width

Colour = tuple[int, int, int]
Image = NDArray[np.uint8]

BACKGROUND, TEXT, MUTED = (22, 24, 28), (228, 231, 235), (128, 135, 146)
SUCCESS, FAILURE = (72, 196, 112), (232, 84, 78)
NEGATIVE, ZERO, POSITIVE = (70, 150, 255), (44, 48, 56), (255, 160, 60)
_MARGIN, _EDGE, _GAP, _BAR = 12, 5, 6, 6


def contact_sheet(episodes: Sequence[Episode], *, columns: int = 8, scale: int = 2) -> Image:
    """One row per episode: label, evenly spaced frames from first to last, actions and success along time.

    scale: pixels of the sheet per pixel of a frame; returns (H, W, 3). In the strip below the frames each line is one
    action dimension, blue at -1 and orange at +1, and the last one is green where the observation shows success.
    """
    _check(episodes)
    return np.concatenate([_row(episode, columns, scale) for episode in episodes])


def animation(episodes: Sequence[Episode], *, fps: float = 10.0, scale: int = 2) -> Image:
    """All episodes side by side in a grid; one that is over holds its last frame, and all hold for half a second.

    Returns (N, H, W, 3), N being the longest length plus fps / 2; an edge is grey, then green from success on, or red
    at the end of a failure.
    """
    _check(episodes)
    length = max(len(episode) for episode in episodes) + round(fps / 2)
    films = [_film(episode, length, scale) for episode in episodes]
    across = int(np.ceil(np.sqrt(len(films))))
    height, width = films[0].shape[1:3]
    canvas = _canvas(length, -(-len(films) // across) * height + _GAP, across * width + _GAP)
    for index, film in enumerate(films):
        y, x = index // across * height, index % across * width
        canvas[:, y : y + height, x : x + width] = film
    return canvas


def write_sheet(
    episodes: Sequence[Episode], png_path: Path, apng_path: Path, *, fps: float = 10.0, scale: int = 2
) -> None:
    """Write the contact sheet and the animation of these episodes."""
    publish(png_path, encode_png(contact_sheet(episodes, scale=scale)))
    publish(apng_path, encode_apng(animation(episodes, fps=fps, scale=scale), fps=fps))


def _check(episodes: Sequence[Episode]) -> None:
    if len({episode.frames.shape[1:] for episode in episodes}) != 1:
        raise UserError(
            f"{len(episodes)} episodes with frames of {sorted({episode.frames.shape[1:] for episode in episodes})}",
            rule="a sheet shows at least one episode, all of one frame size",
            remedy="Choose other episodes.",
        )


def _row(episode: Episode, columns: int, scale: int) -> Image:
    steps = np.unique(np.linspace(0, len(episode) - 1, columns).round().astype(int))
    tiles = _enlarge(episode.frames[steps], scale)
    size = tiles.shape[1]
    left, top = _MARGIN + _EDGE + _GAP, _MARGIN + 2 * LINE_HEIGHT + _GAP
    strip = _strip(episode, len(tiles) * (size + _GAP) - _GAP)
    under = top + size + LINE_HEIGHT + _GAP
    canvas = _canvas(under + len(strip) + _MARGIN, left + columns * (size + _GAP) - _GAP + _MARGIN)
    canvas[_MARGIN : under + len(strip), _MARGIN : _MARGIN + _EDGE] = _colour(episode)
    _draw_label(canvas, episode, left)
    for column, (step, tile) in enumerate(zip(steps, tiles, strict=True)):
        x = left + column * (size + _GAP)
        if episode.success[step]:
            canvas[top - 2 : top + size + 2, x - 2 : x + size + 2] = SUCCESS
        canvas[top : top + size, x : x + size] = tile
        draw_text(canvas, x, top + size + 4, str(step), MUTED)
    canvas[under : under + len(strip), left : left + strip.shape[1]] = strip
    return canvas


def _draw_label(canvas: Image, episode: Episode, left: int) -> None:
    info = episode.info
    label, verdict = f"{info.source}  seed {info.seed}  {_short(info.task)}  ", _verdict(episode)
    scale = 2 if left + text_width(label + verdict, 2) <= canvas.shape[1] - _MARGIN else 1
    draw_text(canvas, left, _MARGIN, label, TEXT, scale)
    draw_text(canvas, left + text_width(label + " ", scale), _MARGIN, verdict, _colour(episode), scale)


def _strip(episode: Episode, width: int) -> Image:
    """Time from left to right; one bar per action dimension and one for success."""
    time = np.arange(width) * len(episode) // width
    actions = episode.actions[np.minimum(time, len(episode) - 2)].T[..., None]
    colours = np.array(ZERO) + np.maximum(actions, 0) * np.subtract(POSITIVE, ZERO)
    colours += np.maximum(-actions, 0) * np.subtract(NEGATIVE, ZERO)
    success = np.where(episode.success[time][:, None], SUCCESS, BACKGROUND)
    bars = np.concatenate([colours, success[None]]).round().astype(np.uint8).repeat(_BAR, axis=0)
    bars[_BAR - 1 :: _BAR] = BACKGROUND
    return bars


def _film(episode: Episode, length: int, scale: int) -> Image:
    """One cell of the animation, as (length, H, W, 3)."""
    tiles = _enlarge(episode.frames, scale)
    size = tiles.shape[1]
    top = _GAP + 3 * LINE_HEIGHT + 8
    film = _canvas(length, top + size + 3, _GAP + size + 6)
    draw_text(film[0], _GAP, _GAP, _short(episode.info.task), TEXT)
    draw_text(film[0], _GAP, _GAP + LINE_HEIGHT + 1, f"{episode.info.source} seed {episode.info.seed}", MUTED)
    film[1:] = film[0]
    for time, picture in enumerate(film):
        step = min(time, len(episode) - 1)
        reached, over = bool(episode.success[: step + 1].any()), step == len(episode) - 1
        colour = _colour(episode) if over else SUCCESS if reached else MUTED
        status = _verdict(episode) if over or reached else f"step {step}"
        draw_text(picture, _GAP, _GAP + 2 * (LINE_HEIGHT + 1), status, colour)
        picture[top - 3 : top + size + 3, _GAP - 3 : _GAP + size + 3] = colour
        picture[top : top + size, _GAP : _GAP + size] = tiles[step]
    return film


def _short(task: str) -> str:
    return task.rsplit("/", 1)[-1]


def _verdict(episode: Episode) -> str:
    if episode.success.any():
        return f"success at step {int(episode.success.argmax())}"
    return "success" if episode.info.succeeded else "failure"


def _colour(episode: Episode) -> Colour:
    return FAILURE if _verdict(episode) == "failure" else SUCCESS


def _enlarge(frames: Image, scale: int) -> Image:
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def _canvas(*shape: int) -> Image:
    return np.full((*shape, 3), BACKGROUND, np.uint8)
