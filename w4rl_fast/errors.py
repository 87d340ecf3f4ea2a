"""The one error a user is meant to read."""


class UserError(Exception):
    """Says which value is wrong, the rule it breaks and what to do about it; the command line prints it and exits 2."""

    def __init__(self, value: str, *, rule: str, remedy: str) -> None:
        self.value, self.rule, self.remedy = value, rule, remedy
        super().__init__(f"{value}: {rule}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.__dict__)  # it travels from a worker to its parent as it is


class MissingExtra(UserError):
    """An optional package is absent; names the extra that brings it."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"package {package!r} is not installed",
            rule=f"this part needs the extra {extra!r}",
            remedy=f'Install it with: pip install "w4rl-fast[{extra}]"',
        )
        self.extra = extra


def _rebuild(kind: type[UserError], text: str, fields: dict[str, object]) -> UserError:
    error = kind.__new__(kind, text)
    error.__dict__.update(fields)
    return error


def near(name: str, known: list[str], limit: int = 5) -> str:
    """A remedy that lists the known names closest to `name`."""
    import difflib

    close = difflib.get_close_matches(name, known, n=limit, cutoff=0.5) or sorted(known)[:limit]
    return f"Did you mean {', '.join(close)}?"
