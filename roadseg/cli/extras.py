"""What commands of the training side say when the base install is asked for them."""

from importlib.util import find_spec

from roadseg.errors import BackendUnavailable


def require_train() -> None:
    """Raise `BackendUnavailable` with the pip command unless the train extra is installed."""
    missing = [
        name for name in ("torch", "safetensors", "onnx", "onnxscript") if not find_spec(name)
    ]
    if missing:
        raise BackendUnavailable(
            f"{', '.join(missing)} not installed; this command needs the train extra; "
            "run: pip install '.[train]' in a checkout of roadseg"
        )
