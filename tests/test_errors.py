"""The names of settings in errors."""

import pickle

import pytest

from cutline.errors import CheckpointError, CutlineError, SettingError, SettingName, blame_setting

RECIPE = {"model": "init.captioner", "tokenizer": "init.tokenizer"}
TOKENIZER = SettingName("tokenizer", "`tokenizer`")


def raise_in_blocks(error: CutlineError, key: str = "") -> None:
    """Raise the error within two blocks; the outer one knows the names in a recipe."""
    with blame_setting("model", RECIPE), blame_setting(key):
        raise error


def test_errors_outside_of_a_block_have_default_names() -> None:
    assert str(CheckpointError("x.pth: no such file")) == "x.pth: no such file"
    assert str(CheckpointError("x.pth: name it in ", TOKENIZER)) == "x.pth: name it in `tokenizer`"
    assert str(SettingError(None, "lr", "is 0")) == "lr is 0"


@pytest.mark.parametrize(
    ("error", "key", "message"),
    [
        (CheckpointError("x: gone"), "tokenizer", "init.tokenizer: x: gone"),
        (CheckpointError("x: gone"), "", "init.captioner: x: gone"),
        (CheckpointError("x: gone"), "unknown", "x: gone"),
        (
            CheckpointError("x: name it in ", TOKENIZER, "!"),
            "",
            "init.captioner: x: name it in `init.tokenizer`!",
        ),
        (
            CheckpointError("x: name it in ", TOKENIZER),
            "tokenizer",
            "x: name it in `init.tokenizer`",
        ),
        (SettingError(None, "tokenizer", "is 0"), "", "`init.tokenizer` is 0"),
    ],
)
def test_errors_in_blocks_have_the_names_of_the_caller(
    error: CutlineError, key: str, message: str
) -> None:
    with pytest.raises(type(error)) as caught:
        raise_in_blocks(error, key)
    assert caught.value is error
    assert str(error) == message
    copy = pickle.loads(pickle.dumps(error))  # as errors reach other processes
    assert (type(copy), str(copy)) == (type(error), message)


def test_braces_and_names_in_a_text_have_no_meaning() -> None:
    text = "{tokenizer}: tokenizer model `tokenizer`"
    with pytest.raises(CheckpointError, match=f"^init.captioner: {text}$"):
        raise_in_blocks(CheckpointError(text))
