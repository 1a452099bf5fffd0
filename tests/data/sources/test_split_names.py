"""Names of splits as people have them."""

import pytest

from d2v.data.sources.split_names import kind_of, kinds_of, kinds_of_files, settled

SIBLINGS = {
    "Kaggle": {"training_set": "train", "test_set": "test"},
    "Kaggle's scenes": {"seg_train": "train", "seg_test": "test"},
    "Kaggle's cats": {"train": "train", "test1": "test"},
    "COCO": {"train2017": "train", "val2017": "val", "test2017": "test", "unlabeled2017": "unlabelled"},
    "20 Newsgroups": {"20news-bydate-train": "train", "20news-bydate-test": "test"},
    "LibriTTS": {"train-clean-100": "train", "dev-other": "dev", "test-clean": "test"},
    "camels": {"TrainSet": "train", "TestSet": "test"},
    "glued": {"trainset": "train", "testdata": "test", "valimages": "val"},
    "FSD50K": {"FSD50K.dev_audio": "dev", "FSD50K.eval_audio": "eval"},
    "UrbanSound8K": {"fold1": "train", "fold2": "train", "fold10": "test"},
    "VOC": {"trainval": "train", "test": "test"},
    "IMDB": {"train": "train", "unsupervised": "unlabelled"},
    "Market": {"bounding_box_train": "train", "bounding_box_test": "test"},
}


@pytest.mark.parametrize("who", SIBLINGS)
def test_splits_among_siblings(who: str) -> None:
    assert kinds_of(SIBLINGS[who]) == SIBLINGS[who]


@pytest.mark.parametrize(
    "names",
    [
        ["bullet train", "test tube"],
        ["steam_train", "cat"],
        ["trained", "devices"],
        ["contest", "latest"],
        ["fold1", "x"],
    ],
)
def test_classes_are_no_splits(names: list[str]) -> None:
    assert kinds_of(names) == {}


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        (["data/train-00000-of-00002.parquet", "data/test-00000-of-00001.parquet"], ["train", "test"]),
        (["train/0.parquet", "validation/0.parquet"], ["train", "val"]),
        (["news-train.parquet", "news-test.parquet", "news.parquet"], ["train", "test", None]),
        (["mine-train.parquet"], ["train"]),
        (["how-to-train.parquet", "notes.parquet"], [None, None]),
        (["a.parquet"], [None]),
    ],
)
def test_splits_of_files(files: list[str], kinds: list[str | None]) -> None:
    assert kinds_of_files(files) == kinds


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x_train", "train"), ("dev", "dev"), ("Validation-1", "val"), ("t10k-images", "test"), ("trained", None)],
)
def test_kind_of_one_name(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("kinds", "used"),
    [
        (["train", "val"], ["train", "test"]),
        (["train", "dev", "test"], ["train", "val", "test"]),
        (["train", "eval"], ["train", "test"]),
        (["train", "val", "eval"], ["train", "val", "test"]),
        (["train", "eval", "test"], ["train", "val", "test"]),
        (["dev", "eval"], ["train", "test"]),
        (["dev", "test"], ["val", "test"]),
        (["train", "unlabelled", "test"], ["train", "train", "test"]),
    ],
)
def test_what_each_split_is_used_as(kinds: list[str], used: list[str]) -> None:
    assert [settled(kinds)[kind] for kind in kinds] == used
