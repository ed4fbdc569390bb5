"""OpenAI's API, with the official client and with what other programs send."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from serving_process import RunningServer, read_url
from web_server import WebServer, send


@pytest.fixture(scope="module")
def client(api_server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{api_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def message(api_base64: list[str]) -> list[Any]:
    return make_messages(f"data:image/png;base64,{api_base64[0]}")


def make_messages(*urls: str) -> list[Any]:
    """Return the messages of a request, as OpenAI's documentation has them."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    text = {"type": "text", "text": "Describe this image in detail."}
    return [{"role": "user", "content": [text, *images]}]


def read_chunks(chunks: Any, index: int = 0) -> str:
    """Return the text of a choice that was sent in parts."""
    return "".join(
        choice.delta.content or ""
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    )


def test_a_completion_is_the_caption(
    api_server: RunningServer, client: openai.OpenAI, api_images: list[bytes], message: list[Any]
) -> None:
    (caption,) = api_server.captioner.caption([api_images[0]])
    for model in ("tiny", "tiny:latest"):
        completion = client.chat.completions.create(model=model, messages=message)
        (choice,) = completion.choices
        assert choice.message.content == caption.text
        assert choice.message.role == "assistant"
        assert (completion.object, completion.model) == ("chat.completion", "tiny")
        prompt = len(api_server.captioner.tokenizer.encode_prompt("a picture of "))
        assert completion.usage
        assert completion.usage.prompt_tokens == prompt
        assert completion.usage.completion_tokens == len(caption.token_ids)
        assert completion.usage.total_tokens == prompt + len(caption.token_ids)


def test_lengths_and_finish_reasons(
    api_server: RunningServer, client: openai.OpenAI, api_images: list[bytes], message: list[Any]
) -> None:
    prompt = len(api_server.captioner.tokenizer.encode_prompt("a picture of "))
    for length in (1, 4, 10_000_000):
        for lengths in (
            {"max_tokens": length},
            {"max_tokens": 2, "max_completion_tokens": length},
        ):
            completion = client.chat.completions.create(model="tiny", messages=message, **lengths)
            limit = min(prompt + length, 48)
            (caption,) = api_server.captioner.caption(
                api_images[:1], max_length=limit, min_length=min(5, limit)
            )
            (choice,) = completion.choices
            assert choice.message.content == caption.text
            is_cut = prompt + len(caption.token_ids) >= limit
            assert choice.finish_reason == ("length" if is_cut else "stop")


def test_choices_raise_the_number_of_beams(
    api_server: RunningServer,
    client: openai.OpenAI,
    api_images: list[bytes],
    api_base64: list[str],
    message: list[Any],
) -> None:
    for count in (2, 4):
        (caption,) = api_server.captioner.caption(
            api_images[:1], num_beams=max(3, count), num_captions=count
        )
        completion = client.chat.completions.create(model="tiny", messages=message, n=count)
        texts = [choice.message.content for choice in completion.choices]
        assert texts == [each.text for each in caption.alternatives]
        chunks = list(
            client.chat.completions.create(model="tiny", messages=message, n=count, stream=True)
        )
        streamed = [read_chunks(chunks, index) for index in range(count)]
        assert sorted(streamed) == sorted(each.text for each in caption.alternatives)
    images = [f"data:;base64,{image}" for image in api_base64[:2]]
    stream = client.chat.completions.create(
        model="tiny", messages=make_messages(*images), n=2, stream=True
    )
    chunks = list(stream)
    lines = [read_chunks(chunks, index).split("\n") for index in range(2)]
    for texts, caption in zip(
        zip(*lines, strict=True),
        api_server.captioner.caption(api_images[:2], num_captions=2),
        strict=True,
    ):
        assert sorted(texts) == sorted(each.text for each in caption.alternatives)
    with pytest.raises(openai.UnprocessableEntityError, match="temperature") as caught:
        client.chat.completions.create(model="tiny", messages=message, n=5)
    assert caught.value.param == "n"


def test_each_choice_has_its_reason(
    api_server: RunningServer, client: openai.OpenAI, api_images: list[bytes], message: list[Any]
) -> None:
    def send(**fields: Any) -> Any:
        settings = {"n": 16, "temperature": 2, "seed": 1, **fields}
        return client.chat.completions.create(model="tiny", messages=message, **settings)

    (caption,) = api_server.captioner.caption(
        api_images[:1], sample=True, temperature=2, seed=1, num_captions=16
    )
    prompt = len(api_server.captioner.tokenizer.encode_prompt("a picture of "))
    expected = [
        (each.text, "length" if prompt + len(each.token_ids) >= 20 else "stop")
        for each in caption.alternatives
    ]
    assert {reason for _, reason in expected} == {"length", "stop"}
    found = [(each.message.content, each.finish_reason) for each in send().choices]
    assert found == expected
    chunks = list(send(stream=True))
    reasons = {
        choice.index: choice.finish_reason
        for chunk in chunks
        for choice in chunk.choices
        if choice.finish_reason
    }
    streamed = [(read_chunks(chunks, index), reason) for index, reason in reasons.items()]
    assert sorted(streamed) == sorted(expected)


def test_a_temperature_means_sampling(
    api_server: RunningServer, client: openai.OpenAI, api_images: list[bytes], message: list[Any]
) -> None:
    def ask(**settings: Any) -> str | None:
        completion = client.chat.completions.create(model="tiny", messages=message, **settings)
        return completion.choices[0].message.content

    def sample(**settings: Any) -> str:
        return api_server.captioner.caption(api_images[:1], sample=True, **settings)[0].text

    (greedy,) = api_server.captioner.caption(api_images[:1])
    assert ask(temperature=0, top_p=0.1, seed=5) == greedy.text
    for settings in (
        {"temperature": 1.5, "seed": 3},
        {"temperature": 0.7, "seed": 0, "top_p": 0.5},
    ):
        assert ask(**settings) == sample(**settings)
    assert ask(temperature=2, top_p=1, seed=9, extra_body={"top_k": -1}) == sample(
        temperature=2, top_p=1, seed=9, top_k=0
    )
    assert len({ask(temperature=2) for _ in range(4)}) > 1  # without a seed, any
    assert ask(temperature=1e-9, top_p=0) is not None


def test_streams(
    api_server: RunningServer, client: openai.OpenAI, api_images: list[bytes], api_base64: list[str]
) -> None:
    texts = [each.text for each in api_server.captioner.caption(api_images)]
    messages = make_messages(*(f"data:;base64,{image}" for image in api_base64))
    for usage in (False, True):
        with client.chat.completions.create(
            model="tiny",
            messages=messages,
            stream=True,
            stream_options={"include_usage": True} if usage else openai.omit,
        ) as stream:
            chunks = list(stream)
        assert read_chunks(chunks) == "\n".join(texts)
        assert len(chunks) > 5  # word by word, as far as they are settled
        assert chunks[0].choices[0].delta.role == "assistant"
        assert {chunk.id for chunk in chunks} == {chunks[0].id}
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert [reason is None for reason in reasons] == [True] * (len(reasons) - 1) + [False]
        assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [
            usage
        ]
        assert bool(chunks[-1].choices) is not usage
    whole = client.chat.completions.create(model="tiny", messages=messages)
    assert whole.choices[0].message.content == "\n".join(texts)
    assert whole.choices[0].finish_reason == next(filter(None, reasons))
    assert chunks[-1].usage == whole.usage
    body = {"messages": messages, "stream": True}
    _, headers, content = read_url(f"{api_server.url}/v1/chat/completions", body)
    assert headers["content-type"].startswith("text/event-stream")
    assert content.endswith(b"data: [DONE]\n\n")


def test_an_image_that_fails_amid_a_stream(
    client: openai.OpenAI, api_base64: list[str], api_server: RunningServer, api_images: list[bytes]
) -> None:
    broken = "R0lGODlhAQABAAAAACw="  # a GIF that is cut
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="tiny", messages=make_messages(broken, api_base64[0]), stream=True
        )
    assert caught.value.status_code in (415, 422)
    assert caught.value.param == "messages[0].content[1].image_url"
    stream = client.chat.completions.create(
        model="tiny", messages=make_messages(api_base64[0], broken), stream=True
    )
    chunks: list[Any] = []
    with pytest.raises(openai.APIError, match="image"):
        chunks.extend(stream)
    assert read_chunks(chunks) == api_server.captioner.caption(api_images[:1])[0].text + "\n"


def test_forms_of_images(
    api_server: RunningServer, api_images: list[bytes], api_base64: list[str]
) -> None:
    (caption,) = api_server.captioner.caption(api_images[:1])
    image = api_base64[0]
    with WebServer() as web:
        web.answers["/a.png"] = send(api_images[0])
        for part in (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
            {"type": "image_url", "image_url": f"data:image/jpeg;base64,{image}"},
            {"type": "image_url", "image_url": {"url": image, "detail": "high"}},
            {"type": "image_url", "image_url": {"url": web.url("/a.png")}},
            {"type": "image_url", "image_url": web.url("/a.png").replace("http", "HTTP")},
            {"type": "input_image", "image_url": f"data:text/html;base64,{image}"},
        ):
            content = [{"type": "text", "text": "What is this?"}, part]
            body = {"messages": [{"role": "user", "content": content}]}
            assert complete(api_server, body) == caption.text, str(part)[:60]


def complete(server: RunningServer, body: object) -> str:
    """Return the text of a completion."""
    status, _, content = read_url(f"{server.url}/v1/chat/completions", body)
    completion = openai.types.chat.ChatCompletion.model_validate_json(content)
    assert status == 200
    text = completion.choices[0].message.content
    assert text is not None
    return text


def test_the_last_turn_that_has_images_counts(
    api_server: RunningServer, api_images: list[bytes], api_base64: list[str]
) -> None:
    first, second, third = (each.text for each in api_server.captioner.caption(api_images))
    a, b, c = (make_messages(image)[0] for image in api_base64)
    answer = {"role": "assistant", "content": "A dog."}
    question: dict[str, Any] = {"role": "user", "content": "And what color is it?"}
    system = {"role": "system", "content": "You are an expert."}
    for messages, lines in (
        ([system, a, answer, b], [second]),
        ([a, answer, b, answer, question], [second]),
        ([a, answer, b, c, question], [second, third]),
        ([a, answer, question, answer], [first]),
        ([*make_messages(*api_base64), question], [first, second, third]),
    ):
        assert complete(api_server, {"messages": messages}) == "\n".join(lines)


def test_models(api_server: RunningServer, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "cutline"
    assert client.models.retrieve("tiny:latest").id == "tiny"
    with pytest.raises(openai.NotFoundError, match=r"gpt-4o.*tiny"):
        client.models.retrieve("gpt-4o")


def test_errors(client: openai.OpenAI, message: list[Any], api_base64: list[str]) -> None:
    def fail(kind: type[openai.APIStatusError], **settings: Any) -> openai.APIStatusError:
        fields: dict[str, Any] = {"model": "tiny", "messages": message} | settings
        with pytest.raises(kind) as caught:
            client.chat.completions.create(**fields)
        return caught.value

    bad, invalid = openai.BadRequestError, openai.UnprocessableEntityError
    assert fail(openai.NotFoundError, model="gpt-4o").param == "model"
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
    assert fail(bad, response_format=schema).param == "response_format"
    assert fail(bad, response_format={"type": "json_object"}).type == "invalid_request"
    client.chat.completions.create(model="tiny", messages=message, response_format={"type": "text"})
    error = fail(invalid, messages=[{"role": "user", "content": "Hello"}])
    assert "no image" in error.message
    assert error.param == "messages"
    assert fail(invalid, temperature=-1).param == "temperature"
    assert fail(invalid, temperature=1e9).param == "temperature"
    assert fail(invalid, n=0).param == "n"
    assert fail(invalid, max_tokens=0).param == "max_tokens"
    assert fail(invalid, messages=[]).param == "messages"
    assert fail(bad, messages=make_messages("data:image/png;base64,***")).type == "invalid_base64"
    assert fail(bad, messages=make_messages("file:///etc/passwd")).type == "invalid_base64"
    part = {"type": "image_url", "image_url": {}}
    error = fail(invalid, messages=[{"role": "user", "content": [part]}])
    assert error.param == "messages[0].content[0]"
    error = fail(invalid, messages=make_messages("http://10.0.0.1/a.png"))
    assert error.param == "messages[0].content[1].image_url"
    error = fail(openai.APIStatusError, messages=make_messages(*api_base64 * 6))
    assert error.status_code == 413


def test_what_programs_send(
    api_server: RunningServer, api_images: list[bytes], api_base64: list[str]
) -> None:
    """LLM Vision for Home Assistant, Frigate, and a tagger for training sets."""
    captioner = api_server.captioner
    texts = [each.text for each in captioner.caption(api_images)]
    jpeg = [f"data:image/jpeg;base64,{image}" for image in api_base64]
    llm_vision = {
        "model": "tiny",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Image 1:"},
                    {"type": "image_url", "image_url": {"url": jpeg[0], "detail": "auto"}},
                    {"type": "text", "text": "Image 2:"},
                    {"type": "image_url", "image_url": {"url": jpeg[1], "detail": "auto"}},
                    {"type": "text", "text": "Describe the images in one sentence"},
                ],
            }
        ],
        "max_tokens": 100,
        "temperature": 0,
    }
    longer = captioner.caption(api_images[:2], max_length=48)
    assert complete(api_server, llm_vision) == "\n".join(each.text for each in longer)
    frigate = {
        "model": "tiny",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Analyze the sequence of images."},
                    {"type": "image_url", "image_url": {"url": jpeg[2], "detail": "low"}},
                ],
            }
        ],
    }
    assert complete(api_server, frigate) == texts[2]
    tagger = {
        "model": "tiny:latest",
        "messages": [
            {"role": "system", "content": "You write captions for text-to-image models."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Write a caption."},
                    {"type": "image_url", "image_url": {"url": jpeg[0]}},
                ],
            },
        ],
        "max_tokens": 300,
        "temperature": 0.6,
        "top_p": 0.9,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "stop": None,
        "stream": False,
        "seed": 1,
    }
    sampled = captioner.caption(api_images[:1], sample=True, temperature=0.6, seed=1, max_length=48)
    assert complete(api_server, tagger) == sampled[0].text
    _, headers, _ = read_url(f"{api_server.url}/v1/chat/completions", tagger)
    assert headers["x-ignored-fields"] == "frequency_penalty, presence_penalty"
