"""What every format is held to."""

from pathlib import Path

from w4rl_fast.errors import UserError


def require_episodes(count: int, path: Path) -> None:
    """Refuse an import or export of nothing."""
    if count == 0:
        raise UserError(f"{path}: 0 episodes", rule="there is at least one", remedy="Choose data that holds some.")


def require_square(name: str, shape: tuple[int, ...]) -> int:
    """The size of images (N, S, S, 3) in pixels; `name` says which images these are."""
    if len(shape) != 4 or shape[3] != 3:
        raise UserError(
            f"{name} has shape {shape}",
            rule="images are (N, height, width, 3)",
            remedy="Convert them, colours last.",
        )
    height, width = shape[1:3]
    if height != width:
        raise UserError(
            f"{name} has images of {height} x {width}",
            rule="images are square",
            remedy=f"Crop them to {min(height, width)} x {min(height, width)} first.",
        )
    return height
