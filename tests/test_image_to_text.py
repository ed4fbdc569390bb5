"""`cutline.pipeline`, compared with transformers' `BlipForConditionalGeneration.generate`."""

import base64
import io
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from random_captioner import make_captioner

import cutline
from cutline.errors import ConfigError, ImageError
from cutline.image_to_text import ImageToTextPipeline, _draw_seeds, to_device_name
from cutline.tokenizer import Tokenizer

SIZE, POSITIONS = 16, 40
Reference = Callable[..., list[str]]
"""caption(image, prompt, **generate_kwargs) -> the texts of one image, by transformers"""
quick = settings(max_examples=16, deadline=None)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Return images of random colors, which random captioners describe differently."""
    colors = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((40, 30), Image.Resampling.NEAREST) for each in colors]


@pytest.fixture(scope="module")
def paths(images: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(len(images))]


@pytest.fixture(scope="module")
def pipe() -> ImageToTextPipeline:
    return cutline.pipeline("image-to-text", make_captioner())


# --- parity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a random captioner in the format of transformers.

    Its weights are large, so that no ranking depends on rounding.
    """
    blip = pytest.importorskip("transformers.models.blip")
    words = ["a red blue green circle star above below the left one two three photo of don't , ."]
    tokenizer = Tokenizer.train(words * 3, 90)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text = {
        "vocab_size": tokenizer.vocab_size,
        "max_position_embeddings": POSITIONS,
        "encoder_hidden_size": 32,
        "bos_token_id": tokenizer.dec_id,
        "sep_token_id": tokenizer.sep_id,
        "eos_token_id": tokenizer.sep_id,
        "pad_token_id": tokenizer.pad_id,
    }
    vision = {"image_size": SIZE, "patch_size": 8}
    model = blip.modeling_blip.BlipForConditionalGeneration(
        blip.BlipConfig(vision_config={**sizes, **vision}, text_config={**sizes, **text})
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + is_norm)
        model.text_decoder.cls.predictions.bias[tokenizer.sep_id] += 2.0
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def drop_in(folder: Path) -> ImageToTextPipeline:
    return cutline.pipeline("image-to-text", model=str(folder), device=-1)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    """Return a function that does what the pipeline of transformers 4 did, step by step."""
    transformers = pytest.importorskip("transformers")
    processor_module = pytest.importorskip("transformers.models.blip.image_processing_pil_blip")
    model = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
    processor = processor_module.BlipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), clean_up_tokenization_spaces=True
    )
    start, end = model.config.text_config.bos_token_id, model.config.text_config.sep_token_id

    def caption(image: Image.Image, prompt: str | None = None, **generate_kwargs: Any) -> list[str]:
        inputs = {"pixel_values": processor(image, return_tensors="pt").pixel_values}
        if prompt is not None:
            ids = tokenizer(prompt, add_special_tokens=False).input_ids
            inputs["input_ids"] = torch.tensor([[start, *ids, end]])
        output = model.generate(**inputs, **generate_kwargs)
        return [tokenizer.decode(row, skip_special_tokens=True) for row in output]

    return caption


def texts_of(records: list[dict[str, str]]) -> list[str]:
    assert all(list(record) == ["generated_text"] for record in records)
    return [record["generated_text"] for record in records]


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")
@pytest.mark.parametrize("prompt", [None, "", "a photo of", "A red star, two"])
def test_defaults_equal_transformers(
    drop_in: ImageToTextPipeline,
    reference: Reference,
    images: list[Image.Image],
    prompt: str | None,
) -> None:
    expected = [reference(image, prompt) for image in images]
    assert len({text for texts in expected for text in texts}) > 3
    assert [texts_of(records) for records in drop_in(images, prompt=prompt)] == expected
    assert texts_of(drop_in(images[0], prompt=prompt)) == expected[0]


@st.composite
def generate_arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Draw arguments of a search; a length is given in tokens of the text or of the caption."""
    num_beams = draw(st.integers(1, 5))
    arguments: dict[str, Any] = {
        "num_beams": num_beams,
        "num_return_sequences": draw(st.integers(1, num_beams)),
        "repetition_penalty": draw(st.sampled_from([1.0, 1.5])),
        "no_repeat_ngram_size": draw(st.sampled_from([0, 2])),
        draw(st.sampled_from(["max_length", "max_new_tokens"])): draw(st.integers(12, 20)),
        draw(st.sampled_from(["min_length", "min_new_tokens"])): draw(st.integers(0, 8)),
    }
    if num_beams > 1:
        arguments["length_penalty"] = draw(st.sampled_from([1.0, -1.0, 2.0]))
    return arguments


@quick
@given(
    generate_arguments(), st.sampled_from([None, "a photo of", "two", "the left one"]), st.data()
)
def test_every_search_equals_transformers(
    drop_in: ImageToTextPipeline,
    reference: Reference,
    images: list[Image.Image],
    arguments: dict[str, Any],
    prompt: str | None,
    data: st.DataObject,
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(images), min_size=1, max_size=4))
    batch_size = data.draw(st.integers(1, 5))
    expected = [reference(image, prompt, **arguments) for image in chosen]
    results = drop_in(chosen, prompt=prompt, batch_size=batch_size, generate_kwargs=arguments)
    assert [texts_of(records) for records in results] == expected


def test_max_new_tokens_is_an_argument_of_its_own(
    drop_in: ImageToTextPipeline, reference: Reference, images: list[Image.Image]
) -> None:
    arguments = {"num_beams": 2, "min_new_tokens": 6}
    records = drop_in(images[0], max_new_tokens=7, generate_kwargs=arguments)
    assert texts_of(records) == reference(images[0], max_new_tokens=7, **arguments)


def test_logits_processors_are_those_of_generate(
    drop_in: ImageToTextPipeline, reference: Reference, images: list[Image.Image]
) -> None:
    transformers = pytest.importorskip("transformers")
    tokens = range(drop_in.captioner.config.text.vocab_size)
    bias = transformers.SequenceBiasLogitsProcessor({(t,): t * 37 % 11 * 2.0 for t in tokens})
    for num_beams in (1, 3):
        arguments = {"num_beams": num_beams, "max_new_tokens": 9}
        plain = [reference(image, **arguments) for image in images]
        arguments["logits_processor"] = transformers.LogitsProcessorList([bias])
        expected = [reference(image, **arguments) for image in images]
        assert list(map(texts_of, drop_in(images, generate_kwargs=arguments))) == expected != plain


# --- inputs and outputs


def test_one_image_gives_a_list_and_a_list_gives_lists(
    pipe: ImageToTextPipeline, images: list[Image.Image]
) -> None:
    one = pipe(images[0])
    assert [list(record) for record in one] == [["generated_text"]]
    assert pipe([images[0]]) == pipe((images[0],)) == [one]
    assert pipe(images) == [pipe(image) for image in images]
    assert pipe([]) == []
    several = pipe(images[0], generate_kwargs={"num_beams": 3, "num_return_sequences": 3})
    assert len({record["generated_text"] for record in several}) == 3


def test_every_kind_of_input_gives_the_same(
    pipe: ImageToTextPipeline, images: list[Image.Image], paths: list[str]
) -> None:
    content = Path(paths[0]).read_bytes()
    data_url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    wrapped = f"data:image/png;base64,{base64.encodebytes(content).decode()}"
    inputs = [paths[0], Path(paths[0]), content, data_url, wrapped, np.asarray(images[0])]
    assert [pipe(each) for each in inputs] == [pipe(images[0])] * len(inputs)
    assert pipe(inputs) == [pipe(images[0])] * len(inputs)


class PathDataset:
    """A dataset as `torch.utils.data.Dataset` is one: without an iterator, or an IndexError."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> str:
        return self.paths[index % len(self.paths)]


@pytest.mark.parametrize("collection", [iter, PathDataset, dict.fromkeys])
def test_other_collections_are_captioned_lazily(
    pipe: ImageToTextPipeline, paths: list[str], collection: Callable[[list[str]], Any]
) -> None:
    results = pipe(collection(paths))
    assert iter(results) is results
    assert list(results) == pipe(paths)


def test_an_endless_generator_is_read_as_it_is_captioned(
    pipe: ImageToTextPipeline, paths: list[str]
) -> None:
    taken = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(paths[len(taken) % len(paths)])
            yield taken[-1]

    results = pipe(endless(), batch_size=2)
    assert [next(results) for _ in paths] == pipe(paths)
    assert len(taken) <= len(paths) + 5


def test_broken_images_raise_and_the_iterator_goes_on(
    pipe: ImageToTextPipeline, paths: list[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.png")
    with pytest.raises(ImageError, match=r"missing\.png: no such image"):
        pipe(missing)
    with pytest.raises(ImageError, match=r"missing\.png: no such image"):
        pipe([paths[0], missing])
    broken = "data:image/png;base64,AAAA"
    results = pipe(path for path in (missing, broken, paths[0]))
    with pytest.raises(ImageError, match=r"missing\.png"):
        next(results)
    with pytest.raises(ImageError, match=r"^data:image/png;base64,…: not an image"):
        next(results)
    assert list(results) == [pipe(paths[0])]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data:image/png;base64,é", r"^data:image/png;base64,…: not valid base64; "),
        ("data:image/png;base64,%%%", r"^data:image/png;base64,…: not valid base64; "),
        ("data:image/png;base64,abc", r"^data:image/png;base64,…: not valid base64; "),
        ("data:image/png;base64,", r"^data:image/png;base64,…: the file is empty; "),
        (None, "an image must be a path, .* not NoneType$"),
        (3, "an image must be a path, .* not int$"),
        ("", "no such image"),
        ("\udcff\n.png", r"^\\udcff\\n\.png: no such image; check the path$"),
    ],
)
def test_what_is_no_image_is_an_error(pipe: ImageToTextPipeline, source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        pipe(source)
    with pytest.raises(ImageError, match=message):
        pipe([source])


# --- addresses


@pytest.fixture
def server(paths: list[str]) -> Iterator[str]:
    """Serve the images on this machine, and return the address of their folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(Path(paths[0]).parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_addresses_are_fetched(
    images: list[Image.Image], server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    captioner = make_captioner()
    local = cutline.pipeline("image-to-text", captioner, allow_private_hosts=["127.0.0.0/8"])
    urls = [f"{server}/{number}.png" for number in range(len(images))]
    assert local(urls, timeout=20.0) == local(images)
    with pytest.raises(ImageError, match=r"^http://127\.0\.0\.1"):
        local(f"{server}/missing.png")
    public = cutline.pipeline("image-to-text", captioner)
    with pytest.raises(ImageError, match=r"^http://127\.0\.0\.1"):
        public(urls[0])
    capfd.readouterr()  # what the server logs


# --- sampling


def test_sampling_follows_the_seed_of_torch(
    pipe: ImageToTextPipeline, images: list[Image.Image]
) -> None:
    arguments = {"do_sample": True, "num_return_sequences": 4, "top_k": None, "temperature": 2.0}
    state = torch.get_rng_state()
    try:
        results = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            results.append(pipe([images[0]] * 3, generate_kwargs=arguments))
        again = pipe([images[0]] * 3, generate_kwargs=arguments)
    finally:
        torch.set_rng_state(state)
    assert results[0] == results[1]
    assert results[0] != results[2] != again
    assert results[0][0] != results[0][1]
    assert [len(records) for records in again] == [4, 4, 4]


def test_samples_are_not_sorted_by_their_scores(
    pipe: ImageToTextPipeline, images: list[Image.Image]
) -> None:
    """The first one is a fair sample, as in transformers, not the best of several."""
    many = {"do_sample": True, "num_return_sequences": 20, "temperature": 3.0}
    torch.manual_seed(0)
    texts = texts_of(pipe(images[0], generate_kwargs=many))
    torch.manual_seed(0)
    [caption] = pipe.captioner.caption(
        images[0],
        "",
        seeds=[next(_draw_seeds())],
        sample=True,
        num_captions=20,
        temperature=3.0,
        top_p=1.0,
        min_length=0,
        max_length=21,
        beam_scoring="huggingface",
    )
    decode = pipe.captioner.tokenizer.decode_as_bert
    by_score = [decode(each.token_ids) for each in caption.alternatives]
    assert sorted(texts) == sorted(by_score)
    assert texts != by_score


# --- arguments


def test_arguments_of_the_pipeline_are_defaults_of_its_calls(images: list[Image.Image]) -> None:
    captioner = make_captioner()
    plain = cutline.pipeline("image-to-text", captioner)
    beams = cutline.pipeline(
        "image-to-text",
        captioner,
        prompt="a red",
        max_new_tokens=3,
        generate_kwargs={"num_beams": 3},
        batch_size=2,
    )
    arguments: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 2}
    expected = plain(images, prompt="a red", max_new_tokens=3, generate_kwargs=arguments)
    assert beams(images, generate_kwargs={"num_return_sequences": 2}) == expected
    assert beams(images, prompt=None, generate_kwargs={"num_beams": None}) == beams(images)
    assert beams(images, prompt="a", max_new_tokens=9, generate_kwargs={"num_beams": 1}) == plain(
        images, prompt="a", max_new_tokens=9
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"generate_kwargs": {"num_beam": 3}},
            r"^unknown argument in generate_kwargs: num_beam; known are max_new_tokens, max_length,"
            r" .*, num_beams, num_return_sequences, do_sample, temperature, .*$",
        ),
        ({"generate_kwargs": {3: 3}}, "^unknown argument in generate_kwargs: 3; known are "),
        (
            {"images": "a.png"},
            "^unknown argument: images; known are max_new_tokens, generate_kwargs, prompt, timeout,"
            " batch_size, num_workers$",
        ),
        (
            {"max_new_tokens": 3, "generate_kwargs": {"max_new_tokens": 4}},
            "^max_new_tokens is also in generate_kwargs: remove one of them$",
        ),
        (
            {"max_new_tokens": 3, "generate_kwargs": {"max_length": 4}},
            "^max_new_tokens and max_length limit the same: give one of them$",
        ),
        (
            {"generate_kwargs": {"min_new_tokens": 3, "min_length": 4}},
            "^min_new_tokens and min_length limit the same: give one of them$",
        ),
        ({"max_new_tokens": 0}, "^max_new_tokens must be between 1 and 100000, not 0$"),
        ({"max_new_tokens": "9"}, "^max_new_tokens must be an integer, not '9'$"),
        ({"max_new_tokens": 10**400}, "^max_new_tokens must be a number of at most 64 bits, not "),
        ({"max_new_tokens": 99}, "^max_length 100 is above the model's 48 positions: lower max_"),
        ({"generate_kwargs": {"top_p": 2.0}}, r"^top_p must be in \(0, 1\], not 2\.0$"),
        ({"generate_kwargs": {"do_sample": 1}}, "^do_sample must be True or False, not 1$"),
        ({"generate_kwargs": 3}, "^generate_kwargs must be a dictionary, not 3$"),
        (
            {"generate_kwargs": {"num_return_sequences": 2}},
            "^num_return_sequences 2 is above num_beams 1: raise num_beams, or use do_sample=True$",
        ),
        (
            {"generate_kwargs": {"num_beams": 2, "do_sample": True}},
            "^num_beams 2 does not go with do_sample=True: remove one of them$",
        ),
        ({"prompt": ["a", "b"]}, r"^prompt must be a string, not \['a', 'b'\]$"),
        ({"prompt": "one " * 60}, "^max_length 48 leaves no room for a caption: .* 61 tokens"),
        ({"batch_size": 0}, "^batch_size must be at least 1, not 0$"),
        ({"num_workers": -1}, "^num_workers must be at least 0, not -1$"),
        ({"timeout": 0.0}, r"^timeout must be in \(0, 86400\], not 0\.0$"),
    ],
)
def test_unknown_and_invalid_arguments_are_errors(
    pipe: ImageToTextPipeline, paths: list[str], arguments: dict[str, Any], message: str
) -> None:
    for inputs in (paths[0], paths, iter(paths)):
        with pytest.raises(ConfigError, match=message):
            pipe(inputs, **arguments)
    if not re.search("positions|no room", message):  # which are those of a model
        with pytest.raises(ConfigError, match=message):
            cutline.pipeline("image-to-text", "no/such/model", **arguments)


@pytest.mark.parametrize("task", ["image-text-to-text", "", None, "x" * 200])
def test_other_tasks_are_refused(task: Any) -> None:
    with pytest.raises(ConfigError, match=r"^unknown task .{,70}: the only task is 'image-to-t"):
        cutline.pipeline(task, "no/such/model")


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (None, "auto"),
        (-1, "cpu"),
        (0, "cuda:0"),
        (1, "cuda:1"),
        ("cpu", "cpu"),
        ("cuda:1", "cuda:1"),
        (torch.device("cpu"), "cpu"),
        (torch.device("cuda", 2), "cuda:2"),
    ],
)
def test_devices_are_those_of_transformers(device: Any, name: str) -> None:
    assert to_device_name(device) == name


def test_a_captioner_keeps_its_device(pipe: ImageToTextPipeline) -> None:
    with pytest.raises(
        ConfigError, match=r"^the captioner is on a device already: remove `device`$"
    ):
        cutline.pipeline("image-to-text", pipe.captioner, device="cpu")


def test_images_of_any_format_can_be_given(pipe: ImageToTextPipeline) -> None:
    """A PIL image in another mode, as datasets contain it."""
    gray = Image.new("L", (20, 10), 99)
    file = io.BytesIO()
    gray.save(file, "TIFF")
    assert pipe(gray) == pipe(file.getvalue()) == pipe(gray.convert("RGB"))
