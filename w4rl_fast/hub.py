"""A model as two files, in a folder or on the Hugging Face hub: its weights (safetensors) and its config (JSON)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from huggingface_hub import ModelHubMixin, snapshot_download
from torch import Tensor, nn

from w4rl_fast.config import load_config, save_config
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG = "config.json"
CARD = """---
{{ card_data }}
---

A model of w4rl_fast: `config.json` is all it takes to build it, the safetensors file holds its weights.
The `from_pretrained` of the class whose config is named there loads it.
"""


class HubModel(nn.Module, ModelHubMixin, library_name="w4rl-fast", model_card_template=CARD):
    """A module that its config alone can build: gives it save_pretrained, from_pretrained and push_to_hub."""

    config: "DataclassInstance"
    config_class: ClassVar[type["DataclassInstance"]]
    weights_file: ClassVar[str]

    def _save_pretrained(self, save_directory: Path) -> None:
        write_model(save_directory, self)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **download: Any) -> Self:
        """Load from a folder, or from the hub by name; `download` goes to snapshot_download (revision, token, ...)."""
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = fetch(str(pretrained_model_name_or_path), [CONFIG, cls.weights_file], **download)
        if not (folder / cls.weights_file).exists():
            raise UserError(f"{folder}", rule=f"there is no {cls.weights_file} in it", remedy="Name another folder")
        model = cls(load_config(folder / CONFIG, cls.config_class))
        read_weights(folder / cls.weights_file, model)
        return model.eval()


def fetch(name: str, files: list[str], **download: Any) -> Path:
    """The folder that holds these files of a model on the hub, and no others."""
    try:
        return Path(snapshot_download(name, allow_patterns=files, **download))
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"model {name!r}",
            rule=f"it is no folder here, and the hub did not give it: {reason}",
            remedy="Give a folder, or owner/name of a model on the hub",
        ) from error


def write_model(folder: Path, model: HubModel) -> None:
    """Write both files, weights last: a folder with weights is complete."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder / CONFIG, model.config)
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    publish(folder / model.weights_file, save(state))


def read_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a file into a model; those that do not fit are named."""
    from safetensors.torch import load

    try:
        state = load(path.read_bytes())
    except Exception as error:
        raise UserError(
            f"weights {path}", rule=f"it cannot be read: {error}", remedy="Restore it from a copy"
        ) from error
    missing, unknown = misfits(state, model.state_dict())
    if missing or unknown:
        raise UserError(
            f"weights {path}",
            rule=f"they are of another config (missing or misshapen {missing[:3]}, unknown {unknown[:3]})",
            remedy=f"Give the {CONFIG} they were trained with",
        )
    model.load_state_dict(state)


def misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """The names of weights that are missing or misshapen in a state, and of those that nobody asked for."""
    missing = [name for name in wanted if name not in state or state[name].shape != wanted[name].shape]
    return missing, [name for name in state if name not in wanted]
