import shutil
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch")

from roadseg.data.folder import FolderDataset
from roadseg.errors import DatasetError
from roadseg.train.config import AugmentConfig
from roadseg.train.loader import Mixture, Sampling, batches

SAMPLING = Sampling(
    crop_hw=(64, 64), augmentation=AugmentConfig(mix=0.5, weather=0.5), rare=(8,), seed=5
)


def made(mixture: Mixture, **changes: int) -> Iterator[np.ndarray]:
    """Yield the frames of each batch."""
    settings = {"epochs": 1, "first_step": 0, "workers": 0}
    return (frames.numpy() for frames, _ in batches(mixture, SAMPLING, **settings | changes))


def test_batches_from_the_middle_are_those_of_a_whole_run(streets) -> None:
    mixture = Mixture.of([FolderDataset.open(streets, "train")], [None], 2)
    whole = list(made(mixture, epochs=2))
    assert len(whole) == 2 * mixture.steps_per_epoch == 6
    for workers in (0, 1):
        resumed = list(made(mixture, epochs=2, first_step=4, workers=workers))
        np.testing.assert_array_equal(resumed, whole[4:])


def test_split_smaller_than_a_batch_still_fills_it(streets) -> None:
    mixture = Mixture.of([FolderDataset.open(streets, "val")], [None], 5)
    assert [frames.shape for frames in made(mixture)] == [(5, 64, 64, 3)]


@pytest.mark.parametrize("workers", [0, 1])
def test_picture_that_is_lost_in_a_run_is_told_in_one_line(streets, tmp_path, workers) -> None:
    shutil.copytree(streets, tmp_path / "data")
    dataset = FolderDataset.open(tmp_path / "data", "train")
    for path in dataset.image_paths[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"^\S+/00[1-5]\.png cannot be read .*pair$") as said:
        list(made(Mixture.of([dataset], [None], 2), workers=workers))
    assert "\n" not in str(said.value)
