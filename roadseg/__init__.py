"""roadseg labels road scenes in video.

    for result in roadseg.stream("drive.mp4"):
        result.class_map, result.pts, result.overlay()

`stream`, `segment`, `load`, `Model` and `Result` are those of `roadseg.infer.api`, imported when
they are first used, so that `import roadseg` stays light.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadseg.infer.api import Model, Result, load, segment, stream

__version__ = "0.2.0"
__all__ = ["Model", "Result", "__version__", "load", "segment", "stream"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from roadseg.infer import api

    return getattr(api, name)
