"""CSV and TSV in the variants that occur in practice, and Flickr8k's and Flickr30k's files."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutline.config import Columns, DataSource
from cutline.data import Sample, open_data, write_captions
from cutline.errors import DataError


def read(
    folder: Path, text: str | bytes, name: str = "data.csv", image_root: str = ""
) -> list[Sample]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return open_data(DataSource(str(folder / name), image_root))


def open_columns(path: Path, columns: Columns) -> list[Sample]:
    return open_data(DataSource(str(path), columns=columns))


def read_error(folder: Path, text: str, name: str = "data.csv") -> str:
    with pytest.raises(DataError) as caught:
        read(folder, text, name)
    message = str(caught.value)
    assert message.startswith(str(folder / name))
    return message.removeprefix(str(folder / name))


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("image_key", ["file_name", "image", "image_name", "filename"])
@pytest.mark.parametrize("caption_key", ["caption", "text", "comment", "captions"])
def test_default_column_names_and_delimiters_are_recognized(
    tmp_path: Path, delimiter: str, image_key: str, caption_key: str
) -> None:
    text = f"\r\nid,{image_key}, {caption_key}\r\n7,x/a.jpg,a dog\r\n\r\n8,x/b.jpg,\r\n"
    assert read(tmp_path, text.replace(",", delimiter)) == [
        Sample(str(tmp_path / "x/a.jpg"), ("a dog",), "7"),
        Sample(str(tmp_path / "x/b.jpg"), (), "8"),
    ]


def test_rows_of_the_same_image_are_merged(tmp_path: Path) -> None:
    samples = read(tmp_path, "image,caption\nb.jpg,1\na.jpg,2\n./b.jpg,3\n", image_root="p")
    assert samples == [Sample("p/b.jpg", ("1", "3"), "b.jpg"), Sample("p/a.jpg", ("2",), "a.jpg")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_ignored(tmp_path: Path, encoding: str) -> None:
    (sample,) = read(tmp_path, "image,caption\nảnh.jpg,một\u2028con chó\n".encode(encoding))
    assert (sample.id, sample.captions) == ("ảnh.jpg", ("một\u2028con chó",))


def test_lists_prompts_and_domains_are_read(tmp_path: Path) -> None:
    text = (
        "image,captions,prompt,domain\n"
        'a.jpg,"[""a dog"", ""a cat""]",a photo of,in-domain\n'
        "b.jpg,[odd],,\n"
        'c.jpg,"[""odd"" ""]",,\n'
    )
    first, second, third = read(tmp_path, text)
    assert first == Sample(
        str(tmp_path / "a.jpg"), ("a dog", "a cat"), "a.jpg", "a photo of", "in-domain"
    )
    assert second == Sample(str(tmp_path / "b.jpg"), ("[odd]",), "b.jpg")
    assert third.captions == ('["odd" "]',)


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ("['a dog', 'a cat']", ("a dog", "a cat")),
        ("""['a dog', "it's a cat"]""", ("a dog", "it's a cat")),
        ('["a dog","a cat"]', ("a dog", "a cat")),
        ("['a dog']", ("a dog",)),
        ("[]", ()),
        # Written by numpy; Python would read one text.
        ("['a dog' 'a cat']", ("['a dog' 'a cat']",)),
        ("['a dog', 1]", ("['a dog', 1]",)),
        ("[a dog]", ("[a dog]",)),
        ("[1]", ("[1]",)),
        ("[open('x')]", ("[open('x')]",)),
    ],
)
def test_only_lists_of_text_in_a_cell_are_parsed(
    tmp_path: Path, cell: str, captions: tuple[str, ...]
) -> None:
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption"], ["a.jpg", cell]])
    assert open_data(tmp_path / "data.csv")[0].captions == captions


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    samples = read(tmp_path, 'image,caption\ra.jpg,"a dog, running"\rb.jpg,a cat\r')
    assert [sample.captions for sample in samples] == [("a dog, running",), ("a cat",)]


def test_tables_with_tabs_need_no_quoting(tmp_path: Path) -> None:
    text = 'image\tcaption\na.jpg\t"Hello" says a sign\nb.jpg\t"no end\nc.jpg\ta dog\n'
    assert [sample.captions for sample in read(tmp_path, text, "a.tsv")] == [
        ('"Hello" says a sign',),
        ('"no end',),
        ("a dog",),
    ]
    (sample,) = read(tmp_path, 'image\tcaption\na.jpg\t"a ""red""\tdog"\n', "b.tsv")
    assert sample.captions == ('a "red"\tdog',)


names = st.text(
    st.characters(exclude_characters="[/\0\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8
)
texts = st.text(st.characters(exclude_characters="[\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(names.filter(lambda name: name.strip(".")), texts), min_size=1, max_size=6
    ),
    delimiter=st.sampled_from(",\t;"),
)
def test_any_table_written_by_pythons_csv_is_read(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str
) -> None:
    with (tmp_path / "data.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("image", "caption"), *rows])
    expected: dict[str, list[str]] = {}
    for name, caption in rows:
        expected.setdefault(str(tmp_path / name), []).extend([caption] if caption.strip() else [])
    samples = open_data(tmp_path / "data.csv")
    assert {sample.image: list(sample.captions) for sample in samples} == expected


def test_written_captions_are_read_back(tmp_path: Path) -> None:
    rows = [
        {"image": str(tmp_path / f"{n}.jpg"), "caption": f'"{n}", one\nof many', "score": -1.5}
        for n in range(3)
    ]
    write_captions(tmp_path / "out.csv", rows)
    samples = open_data(tmp_path / "out.csv")
    assert [sample.image for sample in samples] == [row["image"] for row in rows]
    assert [sample.captions for sample in samples] == [(row["caption"],) for row in rows]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,b\n1,2\n",
            ", line 1: none of the columns a, b is recognized as the image column; "
            "rename the right one to `file_name`, or name it in `--image-column`",
        ),
        (
            "image,caption\na.jpg,a dog\nb.jpg,a dog, running\n",
            ", line 3: 3 cells for 2 columns; put quotes around cells that contain",
        ),
        (
            'image,caption\na.jpg,"a\ndog"\nb.jpg\n',
            ", line 4: 1 cells for 2 columns; put quotes around cells that contain the delimiter",
        ),
        (
            'image,caption\na.jpg,"a dog" runs\n',
            ", line 2: the row cannot be read (',' expected after '\"'); correct its quotes",
        ),
        (
            'image,caption\na.jpg,"a dog\n',
            ", line 2: the row cannot be read (unexpected end of data); correct its quotes",
        ),
        (
            f"image,{'x' * 140_000}\na.jpg,a dog\n",
            ", line 1: the column names cannot be read (field larger than field limit (131072)",
        ),
        (
            "image,caption\ra.jpg,a dog\rb.jpg,a cat\n",
            ", line 1: the column names cannot be read (new-line character seen",
        ),
        (
            "image,caption\na.jpg,a dog\n,a cat\n",
            ", line 3: the row names no image; give its path as `file_name`",
        ),
    ],
)
def test_an_invalid_row_is_named_in_the_error(tmp_path: Path, text: str, message: str) -> None:
    assert read_error(tmp_path, text).startswith(message)


# ------------------------------------------------------------------------------------------- Flickr


def test_flickr8ks_token_file_is_read(tmp_path: Path) -> None:
    text = '1.jpg#0\tA child , "pink"\n1.jpg#1\t" A girl\n2.jpg.1#0\tA dog\n'
    assert read(tmp_path, text, "Flickr8k.token.txt") == [
        Sample(str(tmp_path / "1.jpg"), ('A child , "pink"', '" A girl'), "1.jpg"),
        Sample(str(tmp_path / "2.jpg.1"), ("A dog",), "2.jpg.1"),
    ]
    assert read(tmp_path, text, "results_20130124.token") == open_data(
        tmp_path / "Flickr8k.token.txt"
    )
    message = ", line 2: not of the form `name.jpg#0<TAB>caption`; correct or remove it"
    assert read_error(tmp_path, "1.jpg#0\ta\nodd\n", "captions.txt") == message


def test_kaggles_version_of_flickr8k_is_read(tmp_path: Path) -> None:
    text = 'image,caption\n1.jpg,"A black dog , and a ""spotted"" one"\n1.jpg,A dog .\n'
    (sample,) = read(tmp_path, text, "captions.txt", image_root="Images")
    assert sample == Sample(
        "Images/1.jpg", ('A black dog , and a "spotted" one', "A dog ."), "1.jpg"
    )


def test_flickr30k_is_read_with_its_broken_row(tmp_path: Path) -> None:
    text = (
        "image_name| comment_number| comment\n"
        '1.jpg| 0| " Two men | here , "talking" .\n'
        "2199200615.jpg| 4   A dog runs across the grass .\n"
    )
    samples = read(tmp_path, text, "results.csv")
    assert [(sample.id, sample.captions) for sample in samples] == [
        ("1.jpg", ('" Two men | here , "talking" .',)),
        ("2199200615.jpg", ("A dog runs across the grass .",)),
    ]
    message = ", line 3: 2 cells for 3 columns; put quotes around cells that contain the delimiter"
    assert read_error(tmp_path, text.replace("| 4   A", "| A"), "results.csv") == message


# ------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cc3.tsv", "a very typical bus station\thttp://lh6.ggpht.com/a.jpg\n"),
        ("cc12m.tsv", "https://images.com/a\ta dog, running\n"),
        ("laion.csv", "URL,TEXT\nhttps://images.com/a,a dog\n"),
        ("coyo.csv", "id,url,text\n1,https://images.com/a,a dog\n"),
    ],
)
def test_tables_of_urls_are_refused(tmp_path: Path, name: str, text: str) -> None:
    message = (
        ": contains URLs of images instead of images; "
        "download them with img2dataset, and give the folder that it writes"
    )
    assert read_error(tmp_path, text, name) == message


def test_json_lines_with_urls_are_refused(tmp_path: Path) -> None:
    row = '{"url": "https://images.com/a", "text": "a dog"}'
    assert read_error(tmp_path, row, "a.jsonl").startswith(", line 1: contains URLs of images")


# ------------------------------------------------------------------------------------------ columns

ROW = {
    "photo": "a.jpg",
    "title": "a dog",
    "style": "pencil",
    "start": "this is ",
    "year": 1900,
    "none": "",
}


def write_row(folder: Path, kind: str, row: dict[str, object]) -> Path:
    path = folder / f"row.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
    elif kind == "jsonl":
        path.write_text(json.dumps(row))
    else:
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pytest.importorskip("pyarrow").Table.from_pylist([row]), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_with_other_names_can_be_given(tmp_path: Path, kind: str) -> None:
    path = write_row(tmp_path, kind, ROW)
    columns = Columns(image_column="photo", caption_column="title", prompt_column="start")
    (sample,) = open_columns(path, columns)
    assert sample == Sample(str(tmp_path / "a.jpg"), ("a dog",), "a.jpg", "this is ")
    columns = Columns("photo", prompt_template="a {style} of {year} called {title}: ")
    (sample,) = open_columns(path, columns)
    assert (sample.prompt, sample.captions) == ("a pencil of 1900 called a dog: ", ())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "columns",
    [
        Columns("odd"),
        Columns("photo", "odd"),
        Columns("photo", prompt_column="odd"),
        Columns("photo", prompt_template="{odd} "),
    ],
)
def test_a_missing_column_is_named_in_the_error(
    tmp_path: Path, kind: str, columns: Columns
) -> None:
    path = write_row(tmp_path, kind, ROW)
    with pytest.raises(DataError) as caught:
        open_columns(path, columns)
    where = f"{path}" if kind == "parquet" else f"{path}, line 1"
    names = "photo, title, style, start, year, none"
    flag = f"--{columns.names['odd'].replace('_', '-')}"
    assert str(caught.value) == f"{where}: has no column `odd`; name one of {names} in `{flag}`"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_empty_cell_in_a_prompt_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_row(tmp_path, kind, ROW)
    message = r"(line|row) \d: the prompt needs text in the column `none`, which is (None|''); fill"
    with pytest.raises(DataError, match=message):
        open_columns(path, Columns("photo", prompt_template="{none} of"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"images": [], "annotations": []}'),
        ("f.txt", "a.jpg#0\ta dog"),
        ("folder/a.jpg", ""),
    ],
)
def test_columns_of_data_without_columns_are_refused(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path = path.parent if path.suffix == ".jpg" else path
    with pytest.raises(DataError) as caught:
        open_columns(path, Columns(prompt_template="{style} "))
    message = "this kind of data has no columns, such as `style`; remove `--prompt-template`"
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("name", ["data.csv", "data.tsv"])
def test_repeated_columns_are_named(tmp_path: Path, name: str) -> None:
    text = "file_name,caption, caption\na.jpg,a dog,a cat\n"
    text = text.replace(",", "\t") if name.endswith("tsv") else text
    error = read_error(tmp_path, text, name)
    assert "line 1: 2 columns are named `caption`; remove or rename the others" in error


@pytest.mark.parametrize("name", ["data.csv", "data.tsv"])
def test_a_long_caption_is_not_blamed_on_quotes(tmp_path: Path, name: str) -> None:
    delimiter = "\t" if name.endswith("tsv") else ","
    text = f"file_name{delimiter}caption\na.jpg{delimiter}{'x' * 1_000_000}\n"
    error = read_error(tmp_path, text, name)
    assert "line 2: the row cannot be read (field larger than field limit" in error
    assert "shorten the cell" in error
    assert "quotes" not in error


def test_json_lines_with_repeated_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"file_name": "a.jpg", "text": "a", "text": "b"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: the key `text` occurs twice"):
        open_data(tmp_path / "a.jsonl")
