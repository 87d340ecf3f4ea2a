"""Whether a model can learn from a store."""

from collections.abc import Mapping

from w4rl_fast.data.store import Episodes
from w4rl_fast.errors import UserError


def require_sizes(store: Episodes, wanted: Mapping[str, int], *, horizon: int, what: str) -> None:
    """Refuse a store of other sizes than a model (`what` it is) has, or without an episode of `horizon` steps.

    `wanted` are fields of the store's schema.
    """
    for name, size in wanted.items():
        if (there := getattr(store.schema, name)) != size:
            raise UserError(
                f"store {store.path} with {NAMES[name]} {there}",
                rule=f"this {what} has {size}",
                remedy=f"Train a {what} of the store's own sizes, or collect again",
            )
    longest = max(store.lengths, default=0)
    if longest <= horizon:
        raise UserError(
            f"horizon {horizon}",
            rule=f"the longest episode of {store.path} has {longest} observations",
            remedy=f"Use --set horizon={max(1, longest - 1)} or less",
        )


NAMES = {
    "image_size": "image size",
    "action_dim": "action dimensions",
    "proprio_dim": "proprioception dimensions",
    "landmark_dim": "landmark dimensions",
}
