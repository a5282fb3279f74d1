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
        ConfigError: This is one of several processes, and there are no labels yet.
        RoadsegError: As `label_footage`.
    """
    if bool(unlabelled) != bool(teachers):
        raise ConfigError("--unlabelled and --teacher need each other; give both, or neither")
    if not unlabelled:
        return []
    from roadseg.data.source import DataSource
    from roadseg.infer.footage import Footage
    from roadseg.infer.pseudo_labels import LabelConfig, is_labelled, label_footage
    from roadseg.train.launch import is_rank

    run = out if out.name else out.absolute()
    data = []
    for text in unlabelled:
        source = DataSource.parse(text)
        folder = run.with_name(f"{run.name}.labels") / Footage(source.root).name
        config = LabelConfig(
            sources=(source.root,), teachers=tuple(map(weights_named, teachers)), out=folder
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
        data.append(f"{folder}={source.share}" if source.share else str(folder))
    return data
