"""`Matcher`: probabilities, similarities and hidden states, whatever the batch."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import find_errors_in_fork
from golden_folder import GoldenFolder
from PIL import Image
from random_captioner import draw_images
from random_matcher import make_matcher
from torch import Tensor

import cutline
from cutline.checkpoint import Checkpoint, CheckpointFormat, save_checkpoint
from cutline.config import CaptionConfig
from cutline.matcher import Matcher

TEXTS = [
    "a red circle above a star",
    "two blue stars",
    "three",
    "",
    "one two three " * 30,
    "ein grüner Kreis",
    "красный круг 🔴 紅色圓圈",
]
SAME = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return make_matcher()


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return draw_images(len(TEXTS))


# --- golden numbers of BLIP's code


@pytest.fixture(scope="module")
def load_golden(golden_matcher: GoldenFolder) -> Callable[..., Matcher]:
    """Return a function that loads the reference matcher."""
    config = golden_matcher.config
    sizes = CaptionConfig(config.vision, config.text)

    def load(**settings: Any) -> Matcher:
        settings = {"device": "cpu", "precision": "fp32", "config": sizes} | settings
        return cutline.load_matcher(
            golden_matcher.checkpoint, tokenizer=golden_matcher.vocabulary, **settings
        )

    return load


@pytest.mark.parametrize("engine", ["eager", "packed"])
def test_golden_numbers(
    engine: str, golden_matcher: GoldenFolder, load_golden: Callable[..., Matcher]
) -> None:
    matcher, expected = load_golden(engine=engine), golden_matcher.tensors
    images, texts = golden_matcher.images, golden_matcher.expected["captions"]
    assert matcher.config.projection_dim == golden_matcher.expected["projection_dim"]
    computed = {
        "itm_logits_enc": matcher.match(images, texts),
        "itm_logits_cls": matcher.match(images, texts, start_token="cls"),
        "itc_similarity": matcher.similarity(images, texts, pairs=False),
        "image_embeds": matcher.features(images, None, "image"),
        "text_hidden_first2": matcher.features(None, texts[:2], "text"),
        "multimodal_hidden_enc_first2": matcher.features(images[:2], texts[:2]),
    }
    for name, value in computed.items():
        reference = expected[name].softmax(-1)[:, 1] if "logits" in name else expected[name]
        torch.testing.assert_close(value, reference, atol=1e-4, rtol=0, msg=name)
    assert (computed["itm_logits_enc"] - computed["itm_logits_cls"]).abs().max() > 1e-3


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("int8", 0.05)])
def test_golden_numbers_in_other_precisions(
    precision: str,
    tolerance: float,
    golden_matcher: GoldenFolder,
    load_golden: Callable[..., Matcher],
) -> None:
    images, texts = golden_matcher.images, golden_matcher.expected["captions"]
    exact, matcher = load_golden(), load_golden(precision=precision)
    assert matcher.precision == precision
    for method in ("match", "similarity"):
        expected = getattr(exact, method)(images, texts, pairs=False)
        result = getattr(matcher, method)(images, texts, pairs=False)
        assert result.dtype == torch.float32
        assert 0 < (result - expected).abs().max() < tolerance


@pytest.mark.parametrize("format", ["cutline", "salesforce", "huggingface"])
def test_every_format_gives_the_same_scores(
    format: CheckpointFormat, matcher: Matcher, images: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    checkpoint = Checkpoint(matcher.config, matcher.model.state_dict(), matcher.tokenizer)
    save_checkpoint(path, checkpoint, format)
    loaded = cutline.load_matcher(path, "cpu", "fp32", engine="eager")
    assert torch.equal(loaded.match(images, TEXTS), matcher.match(images, TEXTS))


# --- batches and pairs


def test_results_do_not_depend_on_the_batch(matcher: Matcher, images: list[Image.Image]) -> None:
    for method in (matcher.match, matcher.similarity, matcher.features):
        single = torch.cat([method(*pair) for pair in zip(images, TEXTS, strict=True)])
        assert single.flatten(1).std(0).max() > 1e-3 if single.dim() > 1 else single.std() > 1e-3
        for batch_size in (1, 2, 8):
            batch = method(images, TEXTS, batch_size=batch_size)
            if single.dim() == 1:
                torch.testing.assert_close(batch, single, **SAME)
                continue
            lengths = [
                min(35, len(matcher.tokenizer.encode_text(text))) for text in TEXTS
            ]  # what follows [SEP] has no meaning
            for row, expected, length in zip(batch, single, lengths, strict=True):
                torch.testing.assert_close(row[:length], expected[:length], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["match", "similarity"])
def test_bf16_results_do_not_depend_on_the_batch(
    matcher: Matcher, images: list[Image.Image], method: str
) -> None:
    compare = getattr(
        Matcher(copy.deepcopy(matcher.model), matcher.tokenizer, "cpu", "bf16"), method
    )
    together = compare(images[0], TEXTS)
    assert torch.equal(together, torch.cat([compare(images[0], [text]) for text in TEXTS]))


@pytest.mark.parametrize("method", ["match", "similarity"])
def test_pairs_are_the_diagonal_of_all_with_all(
    method: str, matcher: Matcher, images: list[Image.Image]
) -> None:
    compute = getattr(matcher, method)
    matrix = compute(images, TEXTS, pairs=False)
    assert matrix.shape == (len(images), len(TEXTS))
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(compute(images, TEXTS), matrix.diag(), **SAME)
    torch.testing.assert_close(compute(images[2], TEXTS), matrix[2], **SAME)
    torch.testing.assert_close(compute(images, TEXTS[1]), matrix[:, 1], **SAME)
    torch.testing.assert_close(compute(images[2], TEXTS, pairs=False), matrix[2:3], **SAME)
    torch.testing.assert_close(compute(images, TEXTS[1], pairs=False), matrix[:, 1:2], **SAME)
    assert compute(images[0], TEXTS[0]).shape == (1,)


def test_probabilities_and_cosines_have_their_range(
    matcher: Matcher, images: list[Image.Image]
) -> None:
    matches = matcher.match(images, TEXTS, pairs=False)
    assert ((matches >= 0) & (matches <= 1)).all()
    cosines = matcher.similarity(images, TEXTS, pairs=False)
    assert (cosines.abs() <= 1 + 1e-6).all()
    for embeds in (matcher.embed_images(images), matcher.embed_texts(TEXTS)):
        assert embeds.shape == (len(TEXTS), 16)
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(TEXTS)))


def test_more_texts_than_are_read_at_once(matcher: Matcher, images: list[Image.Image]) -> None:
    texts = [f"{color} {number}" for color in ("red", "blue", "green") for number in range(50)]
    several = matcher.match(images[:2], texts, pairs=False)
    single = torch.cat([matcher.match(images[:2], text, pairs=False) for text in texts[::20]], 1)
    torch.testing.assert_close(several[:, ::20], single, **SAME)


# --- each image and text once


@pytest.fixture
def rows(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the images and the texts that the model encodes."""
    counts = {"images": 0, "texts": 0, "pairs": 0}

    def count(owner: Any, name: str, key: str) -> None:
        original = getattr(owner, name)

        def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            counts[key] += len(tensor)
            return original(tensor, *args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(matcher.model.vision, "forward", "images")
    count(matcher.model, "read_texts", "texts")
    count(matcher.model, "read_pairs", "pairs")
    return counts


def test_repeated_images_and_texts_are_encoded_once(
    matcher: Matcher, images: list[Image.Image], rows: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    images[2].save(path)
    sources = [images[0], path, images[0], path, images[1]]
    texts = ["a star", "a star", "a star", "two", "two"]
    matches = matcher.match(sources, texts)
    assert rows == {"images": 3, "texts": 0, "pairs": 4}
    assert matches[0] == matches[2]
    rows.update(images=0, pairs=0)
    matcher.match(sources, texts, pairs=False)
    assert rows == {"images": 3, "texts": 0, "pairs": 6}
    rows.update(images=0, pairs=0)
    matcher.similarity(sources, texts, pairs=False)
    assert rows == {"images": 3, "texts": 2, "pairs": 0}


def test_features_of_one_kind_do_not_read_the_other(
    matcher: Matcher, images: list[Image.Image], rows: dict[str, int]
) -> None:
    assert matcher.features(images, ["unused"], "image").shape == (len(images), 5, 32)
    assert rows == {"images": len(images), "texts": 0, "pairs": 0}
    assert matcher.features("unused.png", TEXTS, "text").shape == (len(TEXTS), 35, 32)
    assert rows == {"images": len(images), "texts": len(TEXTS), "pairs": 0}


# --- texts


def test_long_texts_are_cut_with_their_end_token(
    matcher: Matcher, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    read_pairs = matcher.model.read_pairs

    def record(input_ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(input_ids)
        return read_pairs(input_ids, *args, **kwargs)

    monkeypatch.setattr(matcher.model, "read_pairs", record)
    matches = matcher.match(images[0], ["two " * 33, "one " * 34, "one " * 5000])
    (ids,) = seen
    assert ids.shape == (2, 35)  # the last two are equal once they are cut
    assert (ids[:, 0] == matcher.tokenizer.enc_id).all()
    assert (ids[:, -1] == matcher.tokenizer.sep_id).all()
    assert matches[1] == matches[2] != matches[0]


def test_texts_are_used_as_they_are(matcher: Matcher, images: list[Image.Image]) -> None:
    plain, dotted = matcher.match(images[0], ["a red star", "a red star."])
    assert plain != dotted
    upper, lower = matcher.match(images[0], ["A RED Star", "a red star"])
    assert upper == lower  # the vocabulary is in lower case


def test_start_tokens_differ(matcher: Matcher, images: list[Image.Image]) -> None:
    enc, cls = (matcher.match(images, TEXTS, start_token=token) for token in ("enc", "cls"))
    assert (enc - cls).abs().max() > 1e-3
    with pytest.raises(cutline.ConfigError, match="start_token 'dec' is not one of enc, cls"):
        matcher.match(images, TEXTS, start_token="dec")  # type: ignore[arg-type]


# --- input that is empty or wrong


def test_empty_lists(matcher: Matcher, images: list[Image.Image]) -> None:
    for method in (matcher.match, matcher.similarity):
        assert method([], []).shape == (0,)
        assert method(images[0], []).shape == (0,)
        assert method([], "a star").shape == (0,)
        assert method([], [], pairs=False).shape == (0, 0)
        assert method(images[:2], [], pairs=False).shape == (2, 0)
        assert method([], TEXTS, pairs=False).shape == (0, len(TEXTS))
    assert matcher.embed_images([]).shape == (0, 16)
    assert matcher.embed_texts([]).shape == (0, 16)
    assert matcher.features([], [], "multimodal").shape == (0, 35, 32)
    assert list(matcher.stream([])) == []


def test_wrong_input_is_an_error(
    matcher: Matcher, images: list[Image.Image], tmp_path: Path
) -> None:
    for method in (matcher.match, matcher.similarity, matcher.features):
        with pytest.raises(cutline.ConfigError, match="there are 3 images and 2 texts: give one"):
            method(images[:3], TEXTS[:2])
        with pytest.raises(cutline.ConfigError, match="a text must be a string, not 3"):
            method(images[:1], [3])  # type: ignore[list-item]
        with pytest.raises(cutline.ConfigError, match="a text must be a string, not 3"):
            method(images[:1], 3)  # type: ignore[arg-type]
        with pytest.raises(cutline.ImageError, match=r"gone\.png"):
            method([images[0], tmp_path / "gone.png"], TEXTS[:2])
        with pytest.raises(cutline.ConfigError, match="batch_size"):
            method(images, TEXTS, batch_size=0)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(cutline.ImageError, match=r"bad\.png"):
        matcher.embed_images(tmp_path / "bad.png")
    with pytest.raises(cutline.ConfigError, match="batch_size"):
        matcher.features(None, TEXTS, "text", batch_size=0)
    for mode in ("image", "multimodal"):
        with pytest.raises(cutline.ConfigError, match=f"mode '{mode}' needs images: "):
            matcher.features(None, "two", mode)
    for mode in ("text", "multimodal"):
        with pytest.raises(cutline.ConfigError, match=f"mode '{mode}' needs texts: "):
            matcher.features(images[0], None, mode)
    with pytest.raises(cutline.ConfigError, match="mode 'x' is not one of image, text, multimodal"):
        matcher.features(images, TEXTS, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [None, 5, b"a", [b"a"], [["a"]]])
def test_a_text_that_is_none_is_an_error(
    texts: Any, matcher: Matcher, images: list[Image.Image]
) -> None:
    for method in (matcher.match, matcher.similarity):
        with pytest.raises(cutline.ConfigError, match="a text must be a string"):
            method(images[0], texts)


def test_results_can_be_changed_and_trained_on(matcher: Matcher, images: list[Image.Image]) -> None:
    """Tensors made in PyTorch's inference mode could not."""
    weight = torch.ones(1, requires_grad=True)
    for result in (
        matcher.match(images[0], TEXTS),
        matcher.similarity(images[0], TEXTS),
        matcher.embed_images(images[0]),
        matcher.embed_texts(TEXTS),
        matcher.features(images[0], None, "image"),
        matcher.features(None, TEXTS, "text"),
        matcher.features(images[0], TEXTS),
    ):
        result.mul_(2)
        (result * weight).sum().backward()


def test_every_kind_of_image(matcher: Matcher, images: list[Image.Image], tmp_path: Path) -> None:
    path, buffer = tmp_path / "a.png", io.BytesIO()
    images[0].save(path)
    images[0].save(buffer, "PNG")
    sources = [images[0], str(path), path, buffer.getvalue(), np.asarray(images[0])]
    assert len(set(matcher.match(sources, "a star").tolist())) == 1


# --- streams


def test_a_stream_gives_scores_and_errors_in_order(
    matcher: Matcher, images: list[Image.Image], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    texts = [TEXTS[:2], TEXTS, [], ["two", "two"], TEXTS[:1]]
    sources = [images[0], tmp_path / "bad.png", images[1], images[2], images[3]]
    pairs = list(zip(sources, texts, strict=True))
    for batch_size in (1, 2, 8):
        results = list(matcher.stream(iter(pairs), batch_size=batch_size))
        assert [result.index for result in results] == [0, 1, 2, 3, 4]
        assert isinstance(results[1], cutline.ImageError)
        for (image, row), result in zip(pairs, results, strict=True):
            if isinstance(result, cutline.MatchScores):
                assert result.itm == pytest.approx(matcher.match(image, row).tolist(), abs=1e-5)
                cosines = matcher.similarity(image, row).tolist()
                assert result.itc == pytest.approx(cosines, abs=1e-5)


def test_a_stream_is_lazy(matcher: Matcher, images: list[Image.Image]) -> None:
    taken = 0

    def inputs() -> Iterator[tuple[Image.Image, list[str]]]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield images[number % 3], ["two"]

    next(iter(matcher.stream(inputs(), batch_size=2)))
    assert taken < 20


# --- processes


def test_a_matcher_is_pickled_and_copied(matcher: Matcher, images: list[Image.Image]) -> None:
    expected = matcher.match(images, TEXTS)
    for other in (pickle.loads(pickle.dumps(matcher)), copy.deepcopy(matcher)):
        assert torch.equal(other.match(images, TEXTS), expected)


def test_a_matcher_says_that_it_does_not_work_after_a_fork(matcher: Matcher) -> None:
    image = draw_images(1)[0]
    messages = find_errors_in_fork(
        [
            lambda: matcher.match(image, "two"),
            lambda: matcher.embed_texts("two"),
            lambda: matcher.features(image, "two"),
            lambda: matcher.stream([(image, ["two"])]),
            lambda: matcher.features(None, "two", "text"),
        ]
    )
    assert len(messages) == 5
    assert all("this matcher was loaded before the process was forked" in each for each in messages)
    assert matcher.match(image, "two").shape == (1,)


# --- loading


def test_settings_are_checked_before_weights_are_read(tmp_path: Path) -> None:
    for settings in ({"device": "gpu"}, {"precision": "fp8"}, {"engine": "fast"}):
        with pytest.raises(cutline.ConfigError, match=next(iter(settings))):
            cutline.load_matcher(tmp_path / "gone", **settings)  # type: ignore[arg-type]


def test_a_matcher_at_another_image_size(
    golden_matcher: GoldenFolder, load_golden: Callable[..., Matcher]
) -> None:
    size = golden_matcher.expected["vision"]["image_size"] + 2 * 16
    matcher = load_golden(image_size=size)
    assert matcher.config.vision.image_size == size
    features = matcher.features(golden_matcher.images[:1], None, "image")
    assert features.shape[1] == matcher.config.vision.num_tokens
