"""What a shell offers for values that have names (`roadseg --install-completion`)."""

from collections.abc import Callable, Iterable

from roadseg.backends.weights import SHIPPED_MODELS


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes one of some names; where none begins so, bash offers files."""

    def begun(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return begun


models = one_of(SHIPPED_MODELS)


def backends(incomplete: str) -> list[str]:
    """Complete the name of a runtime."""
    from roadseg.backends.runtimes import BACKENDS

    return one_of(("auto", *BACKENDS))(incomplete)


def builders(incomplete: str) -> list[str]:
    """Complete the name of a runtime that models are compiled for."""
    from roadseg.deploy.builders import BUILDERS

    return one_of(("auto", *BUILDERS))(incomplete)


def mask_formats(incomplete: str) -> list[str]:
    """Complete the name of a format that class maps are converted to."""
    from roadseg.data.convert import FORMATS

    return one_of(FORMATS)(incomplete)
