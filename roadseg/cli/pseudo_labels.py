"""Label footage for a run of `roadseg train`, as `roadseg label` does."""

from collections.abc import Sequence
from pathlib import Path

from roadseg.backends.weights import weights_named
from roadseg.cli.console import counted, echo
from roadseg.errors import ConfigError


def labelled_for(
    out: Path, unlabelled: Sequence[str], teachers: Sequence[str], *, quiet: bool
) -> list[str]:
    """Label footage beside a run's folder, once, and return the data as `--data` takes them.

    Args:
        out: Folder of the run.
        unlabelled: Videos and folders, each as SOURCE or SOURCE=SHARE.
        teachers: Models, by name or file.
        quiet: Say nothing.

    Raises:
        ConfigError: Two sources have one name, or this is one of several processes, and there are
            no labels yet.
        RoadsegError: As `label_footage`.
    """
    if bool(unlabelled) != bool(teachers):
        raise ConfigError("--unlabelled and --teacher need each other; give both, or neither")
    if not unlabelled:
        return []
    from roadseg.data.source import without_share
    from roadseg.infer.footage import Footage
    from roadseg.infer.pseudo_labels import LabelConfig, is_labelled, label_footage
    from roadseg.train.launch import is_rank

    run = out if out.name else out.absolute()
    named = [without_share(text, "--unlabelled") for text in unlabelled]
    folders = [
        run.with_name(f"{run.name}.labels") / Footage(Path(place)).name for place, _ in named
    ]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise ConfigError(
            f"two of --unlabelled are called {twice.name}; rename one, or label both with roadseg "
            "label and give that folder as --data"
        )
    data = []
    for (place, share), folder in zip(named, folders, strict=True):
        config = LabelConfig(
            sources=(Path(place),), teachers=tuple(map(weights_named, teachers)), out=folder
        )
        if not is_labelled(config):
            if is_rank():
                raise ConfigError(
                    f"{folder} is not labelled, and torchrun's processes would all do it; run "
                    "roadseg label first and give that folder as --data, or use --devices"
                )
            result = label_footage(config)
            if not quiet:
                pictures = counted(result.pictures, "picture")
                echo(f"{folder}: {pictures}, {result.labelled:.0%} labelled")
        data.append(f"{folder}={share}" if share else str(folder))
    return data
