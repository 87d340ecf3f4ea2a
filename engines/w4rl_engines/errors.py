"""What a user of engines is meant to read when something cannot be done."""


class EngineError(Exception):
    """Says which value is wrong, the rule it breaks and what to do about it."""

    def __init__(self, value: str, rule: str, remedy: str) -> None:
        self.value, self.rule, self.remedy = value, rule, remedy
        super().__init__(value, rule, remedy)

    def __str__(self) -> str:
        return f"{self.value}: {self.rule}. {self.remedy}"


class BackendUnavailable(EngineError):
    """A backend asked for by name cannot do that here; names those that can."""


class FellBack(EngineError):
    """An engine is run by something else than it was asked for; nothing may be timed or taken in its place."""


class ArtifactRefused(EngineError):
    """An artifact is damaged, of something else, or made for somewhere else; says how to build it again."""


class ParityFailed(EngineError):
    """An engine computes something else than the module it was built from; says which output and where."""
