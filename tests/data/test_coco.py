"""Captions of COCO and NoCaps, BLIP's rows, and Karpathy's splits."""

import json
from pathlib import Path
from typing import Any

import pytest

from cutline.config import Columns, DataSource
from cutline.data import Sample, open_data, open_references
from cutline.data.coco import UnnamedImage
from cutline.errors import DataError, ImageError

COCO = {
    "info": {"year": 2017},
    "images": [
        {"id": 139, "file_name": "000000000139.jpg"},
        {"id": 285, "file_name": "sub/285.jpg"},
        {"id": 9, "file_name": "uncaptioned.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 285, "caption": "a bear"},
        {"id": 2, "image_id": 139, "caption": "a room"},
        {"id": 3, "image_id": 285, "caption": "\n"},
        {"id": 4, "image_id": 285, "caption": "a big bear"},
    ],
}


KARPATHY_GT = {
    "annotations": [
        {"image_id": 391895, "caption": "a man", "id": 0},
        {"image_id": 391895, "caption": "a bike", "id": 1},
        {"image_id": 42, "caption": "a cat", "id": 2},
    ],
    "images": [{"id": 391895}, {"id": 42}],
}
"""the form of BLIP's coco_karpathy_test_gt.json"""
RESULTS = [{"image_id": 42, "caption": "a dog"}]


def karpathy(filename: str, split: str, number: int, *captions: str) -> dict[str, object]:
    sentences = [{"raw": caption, "tokens": caption.split()} for caption in captions]
    return {
        "filename": filename,
        "filepath": "val2014",
        "split": split,
        "cocoid": number,
        "imgid": 0,
        "sentences": sentences,
    }


SPLITS = {
    "dataset": "coco",
    "images": [
        karpathy("1.jpg", "train", 391895, "a man", "a bike"),
        karpathy("2.jpg", "restval", 2, "a cat"),
        karpathy("3.jpg", "val", 3, "a hat"),
        karpathy("4.jpg", "test", 4, " "),
    ],
}


def read(folder: Path, values: object, **options: Any) -> list[Sample]:
    (folder / "data.json").write_text(json.dumps(values), encoding="utf-8")
    return open_data(DataSource(str(folder / "data.json"), **options))


def read_error(folder: Path, values: object, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, values, **options)
    message = str(caught.value)
    assert message.startswith(str(folder / "data.json"))
    return message.removeprefix(str(folder / "data.json"))


def test_coco_captions_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, COCO) == [
        Sample(str(tmp_path / "000000000139.jpg"), ("a room",), "139"),
        Sample(str(tmp_path / "sub/285.jpg"), ("a bear", "a big bear"), "285"),
        Sample(str(tmp_path / "uncaptioned.jpg"), (), "9"),
    ]
    assert (
        read(tmp_path, COCO, image_root="/coco/val2017")[0].image
        == "/coco/val2017/000000000139.jpg"
    )


def test_nocaps_domains_are_read(tmp_path: Path) -> None:
    """The file has the form of nocaps_val_4500_captions.json."""
    domains = ("in-domain", "near-domain", "out-domain")
    images = [
        {
            "id": n,
            "file_name": f"{n:016x}.jpg",
            "open_images_id": f"{n:016x}",
            "coco_url": f"https://x/{n:016x}.jpg",
            "domain": domain,
        }
        for n, domain in enumerate(domains)
    ]
    annotations = [{"id": n, "image_id": n % 3, "caption": f"caption {n}"} for n in range(6)]
    samples = read(
        tmp_path,
        {"licenses": [], "info": {}, "images": images, "annotations": annotations},
        image_root="val",
    )
    assert [(sample.id, sample.domain) for sample in samples] == [
        ("0", "in-domain"),
        ("1", "near-domain"),
        ("2", "out-domain"),
    ]
    assert samples[1] == Sample(
        "val/0000000000000001.jpg", ("caption 1", "caption 4"), "1", None, "near-domain"
    )
    assert [sample.domain for sample in read(tmp_path, COCO)] == [""] * 3


def test_columns_can_be_named_for_blips_rows_only(tmp_path: Path) -> None:
    rows = [{"photo": "a.jpg", "title": "a dog", "style": "pencil"}]
    columns = Columns("photo", "title", prompt_template="a {style} of ")
    (tmp_path / "data.json").write_text(json.dumps(rows))
    source = DataSource(str(tmp_path / "data.json"), columns=columns)
    assert open_data(source) == [
        Sample(str(tmp_path / "a.jpg"), ("a dog",), "a.jpg", "a pencil of ")
    ]
    (tmp_path / "data.json").write_text(json.dumps(SPLITS))
    with pytest.raises(DataError, match="such as `photo`; remove `--image-column`"):
        open_data(source)


def test_blips_training_rows_are_read(tmp_path: Path) -> None:
    image = "val2014/COCO_val2014_000000522418.jpg"
    rows = [
        {"caption": caption, "image": image, "image_id": "coco_522418"}
        for caption in ("a woman", "a cake")
    ]
    assert read(tmp_path, rows) == [
        Sample(str(tmp_path / image), ("a woman", "a cake"), "coco_522418")
    ]


def test_blips_validation_rows_are_read(tmp_path: Path) -> None:
    rows = [
        {"image": "val2014/COCO_val2014_000000184613.jpg", "caption": ["a child", "a cow"]},
        {"image": "000000000139.jpg", "caption": ["a room"]},
        {"image": "val/0013ea2087020901.jpg", "img_id": 0},
        {"image": "flickr30k-images/1007129816.jpg", "caption": ["a hat"]},
    ]
    samples = read(tmp_path, rows)
    assert [sample.id for sample in samples] == [
        "184613",
        "139",
        "0",
        "flickr30k-images/1007129816.jpg",
    ]
    assert samples[0].captions == ("a child", "a cow")


def test_a_named_column_has_the_ids(tmp_path: Path) -> None:
    """Also those that look like files of COCO, as several folders may have the same."""
    names = ["a/000000000001.jpg", "b/000000000001.jpg"]
    rows = [{"image": name, "path_id": name, "caption": ["a room"]} for name in names]
    samples = read(tmp_path, rows, columns=Columns(id_column="path_id"))
    assert [sample.id for sample in samples] == names


def test_karpathys_splits_are_read(tmp_path: Path) -> None:
    def ids(split: str) -> list[str]:
        return [sample.id for sample in read(tmp_path, SPLITS, split=split)]

    assert ids("") == ["391895", "2", "3", "4"]
    assert ids("train") == ["391895", "2"]  # training uses restval too, as usual
    assert ids("restval") == ["2"]
    assert ids("val") == ["3"]
    assert read(tmp_path, SPLITS, split="test") == [
        Sample(str(tmp_path / "val2014/4.jpg"), (), "4")
    ]
    assert read(tmp_path, SPLITS)[0].captions == ("a man", "a bike")
    message = ": has no split `dev`; name one of train, restval, val, test in `--split`"
    assert read_error(tmp_path, SPLITS, split="dev") == message


def test_karpathys_flickr_file_is_read_without_folders(tmp_path: Path) -> None:
    image = {
        key: value
        for key, value in karpathy("5.jpg", "train", 5, "a dog").items()
        if key not in ("filepath", "cocoid")
    }
    assert read(tmp_path, {"images": [image]}) == [Sample(str(tmp_path / "5.jpg"), ("a dog",), "0")]


@pytest.mark.parametrize("values", [COCO, [{"image": "a.jpg", "caption": "a"}]])
def test_a_split_of_data_without_splits_is_refused(tmp_path: Path, values: object) -> None:
    message = ": has no split `train`; remove `--split`"
    assert read_error(tmp_path, values, split="train") == message


NEITHER_FORM = ": neither COCO captions nor a list of rows; it must contain `images`, or a list"
NO_FILES = (
    ": names no image files, so that it can only be the references of `cutline evaluate "
    "--captions` and `cutline compare`; give data with a `file_name` of each image"
)
COMPLETE = "check that this is a complete caption file"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {},
            NEITHER_FORM,
        ),
        (
            3,
            NEITHER_FORM,
        ),
        (
            {"images": COCO["images"], "annotations": "captions.json"},
            NEITHER_FORM,
        ),
        ([{"caption": "a"}], ", row 1: the row names no image; give its path as `file_name`"),
        (
            {"images": [{"id": 1, "file_name": "a", "domain": 3}], "annotations": []},
            f", image 1: `domain` is missing or not text; {COMPLETE}",
        ),
        (
            [{"image": "a.jpg"}, 4],
            ", row 2: a row must be a JSON object such as "
            '{"file_name": "a.jpg", "captions": ["a dog"]}',
        ),
        (
            {"images": COCO["images"], "annotations": [{"image_id": 139, "bbox": [0, 0, 1, 1]}]},
            f", annotation 1: `caption` is missing or not text; {COMPLETE}",
        ),
        (
            {"images": COCO["images"], "annotations": [{"caption": "a"}]},
            f", annotation 1: `image_id` is missing; {COMPLETE}",
        ),
        (
            {"images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2}], "annotations": []},
            f", image 2: `file_name` is missing or not text; {COMPLETE}",
        ),
        (KARPATHY_GT, NO_FILES),
        (
            RESULTS,
            ": COCO results, which are captions of images that it does not name; measure them with "
            "`cutline evaluate DATA --captions DATA.json`",
        ),
        (
            {"images": [7], "annotations": []},
            f", image 1: `id` is missing; {COMPLETE}",
        ),
        (
            {"images": [], "annotations": [{"image_id": 5, "caption": "a"}]},
            ": has captions of image 5, which is not in `images`; "
            "add it there, or remove the captions",
        ),
        (
            {"images": [{"sentences": []}]},
            f", image 1: `split` is missing or not text; {COMPLETE}",
        ),
        (
            {"images": [{"sentences": {}, "split": "val"}]},
            ", image 1: has no list of `sentences`; add it",
        ),
        (
            {"images": [{"sentences": [{}], "split": "val"}]},
            f", image 1: `raw` is missing or not text; {COMPLETE}",
        ),
        (
            {
                "images": [
                    {"sentences": [], "split": "val", "filename": "a", "filepath": 3, "imgid": 1}
                ]
            },
            f", image 1: `filepath` is missing or not text; {COMPLETE}",
        ),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, values: object, message: str) -> None:
    assert read_error(tmp_path, values) == message.replace("DATA.json", str(tmp_path / "data.json"))


def test_a_null_domain_is_no_domain(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "1.jpg", "domain": None},
        {"id": 2.0, "file_name": "2.jpg", "domain": "out-domain"},
    ]
    samples = read(
        tmp_path, {"images": images, "annotations": [{"image_id": 2, "caption": "a dog"}]}
    )
    assert [(sample.id, sample.captions, sample.domain) for sample in samples] == [
        ("1", (), ""),
        ("2", ("a dog",), "out-domain"),
    ]


def test_two_images_with_the_same_id_are_named(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "a.jpg"},
        {"id": 2, "file_name": "b.jpg"},
        {"id": "1", "file_name": "c.jpg"},
    ]
    content = {"images": images, "annotations": [{"image_id": 1, "caption": "a dog"}]}
    message = ", image 3: c.jpg has the same id as a.jpg, 1; make the ids unique"
    assert read_error(tmp_path, content) == message


@pytest.mark.parametrize("annotations", [{}, {"annotations": []}, {"annotations": None}])
def test_a_file_without_annotations_lists_images(
    tmp_path: Path, annotations: dict[str, object]
) -> None:
    """The file has the form of nocaps_test_image_info.json."""
    images = [
        {
            "id": n,
            "file_name": f"{n:016x}.jpg",
            "open_images_id": f"{n:016x}",
            "coco_url": f"https://x/{n:016x}.jpg",
            "width": 1024,
        }
        for n in range(3)
    ]
    samples = read(tmp_path, {"licenses": [], "info": {}, "images": images, **annotations})
    assert samples == [Sample(str(tmp_path / f"{n:016x}.jpg"), (), str(n)) for n in range(3)]


def test_references_need_no_file_names(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(KARPATHY_GT))
    samples = open_references(path)
    assert samples == [
        Sample(UnnamedImage("391895"), ("a man", "a bike"), "391895"),
        Sample(UnnamedImage("42"), ("a cat",), "42"),
    ]
    assert samples[1].name == "image 42"
    with pytest.raises(ImageError, match="image 42: the data does not name its file"):
        UnnamedImage("42").read()
    path.write_text(json.dumps({**KARPATHY_GT, "images": [{"id": 42}, {"id": "42"}]}))
    with pytest.raises(DataError, match="image 2: image 42 has the same id as image 42, 42"):
        open_references(path)
    path.write_text(json.dumps(COCO))
    assert open_references(path) == open_data(path)
