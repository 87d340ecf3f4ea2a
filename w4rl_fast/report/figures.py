"""Figures in words."""

NOTHING = "-"


def number(value: float | None, digits: int, unit: str = "") -> str:
    return NOTHING if value is None else f"{value:.{digits}f}{unit}"


def decimal(value: float | None) -> str:
    return number(value, 3)


def centimetres(metres: float | None, digits: int = 2) -> str:
    return NOTHING if metres is None else f"{100 * metres:.{digits}f} cm"
