"""What PyTorch says of a machine's GPUs."""

import warnings

import torch


def device_of(name: str) -> torch.device:
    """Return PyTorch's device of a name such as cuda:1."""
    return torch.device(name)


def refusal(name: str) -> str | None:
    """Return why a GPU cannot be used, as cuda:1 or as any of them; None if it can."""
    with warnings.catch_warnings(record=True) as said:  # such as that the driver is too old
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        build = torch.version.cuda
        made_for = f"made for CUDA {build}" if build else "a build for the CPU"
        reasons = [str(warning.message).partition("\n")[0] for warning in said]
        return "; ".join(
            [f"PyTorch, which is {made_for}, finds no NVIDIA GPU with a driver", *reasons]
        )
    index = int(name.partition(":")[2] or 0)
    return None if index < count else f"there is no GPU {index}; PyTorch finds {count}"
