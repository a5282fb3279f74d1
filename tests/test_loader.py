import numpy as np
import pytest

pytest.importorskip("torch")

from roadseg.data.folder import FolderDataset
from roadseg.train.config import AugmentConfig
from roadseg.train.loader import Mixture, batches


def test_batches_from_the_middle_are_those_of_a_whole_run(streets) -> None:
    mixture = Mixture.of([FolderDataset.open(streets, "train")], [None], 2)

    def run(first_step: int, workers: int) -> list[np.ndarray]:
        return [
            frames.numpy()
            for frames, _ in batches(
                mixture,
                crop_hw=(64, 64),
                augmentation=AugmentConfig(mix=0.5, weather=0.5),
                rare=(8,),
                epochs=2,
                first_step=first_step,
                seed=5,
                workers=workers,
            )
        ]

    whole = run(0, workers=0)
    assert len(whole) == 2 * mixture.steps_per_epoch == 6
    for resumed in (run(4, workers=0), run(4, workers=1)):
        np.testing.assert_array_equal(resumed, whole[4:])


def test_split_smaller_than_a_batch_still_fills_it(streets) -> None:
    mixture = Mixture.of([FolderDataset.open(streets, "val")], [None], 5)
    shapes = [
        frames.shape
        for frames, _ in batches(
            mixture,
            crop_hw=(32, 32),
            augmentation=AugmentConfig(mix=0.5, weather=0.5),
            rare=(8,),
            epochs=1,
            first_step=0,
            seed=0,
            workers=0,
        )
    ]
    assert shapes == [(5, 32, 32, 3)]
