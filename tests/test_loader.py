import numpy as np
import pytest

pytest.importorskip("torch")

from roadseg.data.folder import FolderDataset
from roadseg.data.loader import batches, steps_per_epoch
from roadseg.train_config import AugmentConfig


def test_batches_from_the_middle_are_those_of_a_whole_run(streets) -> None:
    dataset = FolderDataset.open(streets, "train")

    def run(first_step: int, workers: int) -> list[np.ndarray]:
        return [
            frames.numpy()
            for frames, _ in batches(
                dataset,
                crop_hw=(64, 64),
                augmentation=AugmentConfig(mix=0.5, weather=0.5),
                rare=(8,),
                batch_size=2,
                epochs=2,
                first_step=first_step,
                seed=5,
                workers=workers,
            )
        ]

    whole = run(0, workers=0)
    assert len(whole) == 2 * steps_per_epoch(dataset, 2) == 6
    for resumed in (run(4, workers=0), run(4, workers=1)):
        np.testing.assert_array_equal(resumed, whole[4:])


def test_split_smaller_than_a_batch_still_fills_it(streets) -> None:
    dataset = FolderDataset.open(streets, "val")
    shapes = [
        frames.shape
        for frames, _ in batches(
            dataset,
            crop_hw=(32, 32),
            augmentation=AugmentConfig(mix=0.5, weather=0.5),
            rare=(8,),
            batch_size=5,
            epochs=1,
            first_step=0,
            seed=0,
            workers=0,
        )
    ]
    assert shapes == [(5, 32, 32, 3)]
