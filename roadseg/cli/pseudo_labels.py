"""Label footage for a run of `roadseg train`, as `roadseg label` does."""

from collections.abc import Sequence
from pathlib import Path

from roadseg.cli.console import echo
from roadseg.errors import ConfigError


def labelled_for(
    out: Path, unlabelled: Sequence[str], teachers: Sequence[Path], *, quiet: bool
) -> list[str]:
    """Label footage beside a run's folder, once, and return the data as `--data` takes them.

    Args:
        out: Folder of the run.
        unlabelled: Videos and folders, each as SOURCE or SOURCE=SHARE.
        teachers: Models.
        quiet: Say nothing.

    Raises:
        RoadsegError: As `label_footage`.
    """
    if bool(unlabelled) != bool(teachers):
        raise ConfigError("--unlabelled and --teacher need each other; give both, or neither")
    if not unlabelled:
        return []
    from roadseg.data.source import DataSource
    from roadseg.infer.pseudo_labels import LabelConfig, is_labelled, label_footage

    data = []
    for text in unlabelled:
        source = DataSource.parse(text)
        folder = out.with_name(f"{out.name}.labels") / source.root.stem
        config = LabelConfig(sources=(source.root,), teachers=tuple(teachers), out=folder)
        if not is_labelled(config):
            result = label_footage(config)
            if not quiet:
                echo(f"{folder}: {result.pictures} pictures, {result.labelled:.0%} labelled")
        data.append(f"{folder}={source.share}" if source.share else str(folder))
    return data
