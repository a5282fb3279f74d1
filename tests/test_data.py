import numpy as np
import pytest
from conftest import scene, write_pair

from roadseg.config import AugmentConfig
from roadseg.data.folder import FolderDataset
from roadseg.data.loader import batches, steps_per_epoch
from roadseg.errors import DatasetError


def test_split_is_read_in_order_with_its_labels(streets) -> None:
    dataset = FolderDataset.open(streets, "train")
    assert len(dataset) == 6
    image, target = dataset[2]
    expected_image, expected_target = scene(2)
    np.testing.assert_array_equal(image, expected_image)
    np.testing.assert_array_equal(target, expected_target)


def test_missing_label_is_named(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    (tmp_path / "trainannot" / "a.png").unlink()
    write_pair(tmp_path, "train", "b", *scene(1))
    with pytest.raises(DatasetError, match=r"1 of 2 .*a\.png"):
        FolderDataset.open(tmp_path, "train")


def test_label_of_another_size_is_named(tmp_path) -> None:
    image, target = scene(0)
    write_pair(tmp_path, "train", "odd", image, target[:-2])
    with pytest.raises(DatasetError, match=r"odd\.png is 128x94 and its picture is 128x96"):
        FolderDataset.open(tmp_path, "train").check()


def test_id_outside_the_classes_is_named(tmp_path) -> None:
    image, target = scene(0)
    target[0, 0] = 40
    write_pair(tmp_path, "train", "stray", image, target)
    with pytest.raises(DatasetError, match=r"stray\.png has the id 40"):
        FolderDataset.open(tmp_path, "train").check()


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.full((96, 128), 3, np.uint16), r"1 channel\(s\) of uint16"),
        (np.full((96, 128, 3), 3, np.uint8), r"3 channel\(s\) of uint8"),
    ],
)
def test_label_that_is_no_map_of_ids_is_named(tmp_path, label, said) -> None:
    write_pair(tmp_path, "train", "odd", scene(0)[0], label)
    with pytest.raises(DatasetError, match=rf"odd\.png has {said}"):
        FolderDataset.open(tmp_path, "train").check()


def test_split_without_a_labelled_pixel_is_refused(tmp_path) -> None:
    write_pair(tmp_path, "val", "void", scene(0)[0], np.full((96, 128), 11, np.uint8))
    with pytest.raises(DatasetError, match="no pixel of val is labelled"):
        FolderDataset.open(tmp_path, "val").check()


def test_file_that_is_no_picture_is_named(tmp_path) -> None:
    write_pair(tmp_path, "train", "broken", *scene(0))
    (tmp_path / "train" / "broken.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"broken\.png cannot be read"):
        FolderDataset.open(tmp_path, "train").check()


@pytest.mark.parametrize("made", [[], ["train"], ["train", "trainannot"]])
def test_missing_or_empty_split_is_refused(tmp_path, made) -> None:
    for name in made:
        (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match="train"):
        FolderDataset.open(tmp_path, "train")


def test_batches_from_the_middle_are_those_of_a_whole_run(streets) -> None:
    dataset = FolderDataset.open(streets, "train")

    def run(first_step: int, workers: int) -> list[np.ndarray]:
        return [
            frames.numpy()
            for frames, _ in batches(
                dataset,
                crop_hw=(64, 64),
                augmentation=AugmentConfig(),
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
            augmentation=AugmentConfig(),
            batch_size=5,
            epochs=1,
            first_step=0,
            seed=0,
            workers=0,
        )
    ]
    assert shapes == [(5, 32, 32, 3)]
