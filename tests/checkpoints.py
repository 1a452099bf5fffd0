"""What a checkpoint holds."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def stored(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by `file/name`: weights, the teacher's too, and moments."""
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) >= 3, f"{folder} has no weights and two moments"
    return {f"{file.stem}/{name}": tensor for file in files for name, tensor in load_file(file).items()}
