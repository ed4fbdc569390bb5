"""The LM loss: against its formula, in parts, per caption, and which tokens are scored."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import VOCAB, make_config, make_images, make_model, make_texts
from torch import Tensor

from cutline.model import CaptionModel, make_lm_labels

MODEL = make_model()
quick = settings(max_examples=25, deadline=None, derandomize=True)
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def make_batch(
    lengths: list[int], prompts: list[int], seed: int = 0, images: int | None = None
) -> Batch:
    """Make pixel_values, input_ids, attention_mask and labels; prompts are not scored."""
    ids, mask = make_texts(lengths, seed)
    pixels = make_images(images or len(lengths), seed=seed)
    return pixels, ids, mask, make_lm_labels(ids, mask, torch.tensor(prompts))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Draw captions of different lengths, each with a prompt and at least one scored token."""
    lengths = draw(st.lists(st.integers(2, 7), min_size=1, max_size=5))
    return make_batch(
        lengths,
        [draw(st.integers(0, length - 1)) for length in lengths],
        draw(st.integers(0, 99)),
    )


def reference_losses(model: CaptionModel, values: Batch) -> list[float]:
    """Compute the loss of each caption token by token, without padding."""
    smoothing, losses = model.config.label_smoothing, []
    for pixels, ids, mask, labels in zip(*values, strict=True):
        count = int(mask.sum())
        hidden = model.text(ids[None, :count], None, model.vision(pixels[None]))[0]
        total = 0.0
        for position in range(1, count):
            log_probs = model.text.compute_logits(hidden[position - 1]).log_softmax(-1)
            if labels[position] != -100:
                total -= float(
                    (1 - smoothing) * log_probs[ids[position]] + smoothing * log_probs.mean()
                )
        losses.append(total)
    return losses


@torch.no_grad()
@quick
@given(batches(), st.sampled_from([0.0, 0.1, 0.6]))
def test_loss_matches_its_formula(values: Batch, smoothing: float) -> None:
    model = make_model(make_config(label_smoothing=smoothing))
    expected = reference_losses(model, values)
    result = model(*values, reduction="none")
    assert result.loss.tolist() == pytest.approx(expected, rel=1e-4)
    assert int(result.token_count) == int((values[3][:, 1:] != -100).sum())
    assert model(*values).loss.item() == pytest.approx(sum(expected), rel=1e-4)
    assert model(*values, reduction="mean").loss.item() == pytest.approx(
        sum(expected) / int(result.token_count), rel=1e-4
    )


@torch.no_grad()
@quick
@given(batches(), st.data())
def test_losses_of_parts_add_up(values: Batch, data: st.DataObject) -> None:
    expected = MODEL(*values, reduction="mean")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values[0])))) | {0, len(values[0])})
    parts = [MODEL(*(tensor[start:stop] for tensor in values)) for start, stop in pairwise(cuts)]
    count = sum(int(part.token_count) for part in parts)
    assert count == int(expected.token_count)
    assert sum(part.loss.item() for part in parts) / count == pytest.approx(
        expected.loss.item(), rel=1e-4
    )


@torch.no_grad()
@quick
@given(batches(), st.sampled_from(["sum", "mean", "none"]))
def test_returning_logits_does_not_change_the_loss(values: Batch, reduction: Any) -> None:
    rows: list[int] = []
    handle = MODEL.text.lm_head.register_forward_hook(
        lambda _, args, out: rows.append(out[..., 0].numel())
    )
    plain = MODEL(*values, reduction=reduction)
    full = MODEL(*values, reduction=reduction, return_logits=True)
    handle.remove()
    assert plain.logits is None
    # by default, only the logits of scored tokens are computed
    assert rows == [int(plain.token_count), values[1].numel() - len(values[1])]
    torch.testing.assert_close(plain.loss, full.loss)
    states = MODEL.text(values[1], values[2], MODEL.vision(values[0]))
    torch.testing.assert_close(full.logits, MODEL.text.compute_logits(states[:, :-1]))


@quick
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(0, 8)), min_size=1, max_size=4))
def test_padding_and_prompts_are_not_scored(rows: list[tuple[int, int]]) -> None:
    ids, mask = make_texts([length for length, _ in rows])
    labels = make_lm_labels(ids, mask, torch.tensor([prompt for _, prompt in rows]))
    for number, (length, prompt) in enumerate(rows):
        for position in range(ids.shape[1]):
            assert labels[number, position] == (
                ids[number, position] if prompt <= position < length else -100
            )


@torch.no_grad()
def test_token_ids_at_padding_have_no_effect() -> None:
    pixels, ids, mask, labels = make_batch([3, 6, 4], [1, 2, 0])
    expected = MODEL(pixels, ids, mask, labels, reduction="none").loss
    other = torch.where(mask.bool(), ids, VOCAB - 1)
    torch.testing.assert_close(MODEL(pixels, other, mask, labels, reduction="none").loss, expected)


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_captions_of_an_image_share_its_embeddings(images: int, captions: int, seed: int) -> None:
    lengths = [2 + (number * 5 + seed) % 6 for number in range(images * captions)]
    pixels, *text = make_batch(lengths, [1] * len(lengths), seed, images)
    losses, gradients = [], []
    for images_in_batch in (pixels, pixels.repeat_interleave(captions, 0)):
        MODEL.zero_grad()
        loss = MODEL(images_in_batch, *text, reduction="none").loss
        loss.sum().backward()
        losses.append(loss.detach())
        gradients.append(
            [weight.grad.clone() for weight in MODEL.parameters() if weight.grad is not None]
        )
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_caption_without_scored_tokens_has_zero_loss() -> None:
    values = make_batch([3, 5], [3, 1])
    result = MODEL(*values, reduction="none")
    assert result.loss[0] == 0
    assert result.loss[1] > 0
    empty = MODEL(*make_batch([3, 5], [3, 5]))
    assert empty.loss == 0
    assert empty.token_count == 0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_keeps_loss_and_gradients(dropout: float) -> None:
    config = make_config({"drop_path": dropout}, {"dropout": dropout, "attn_dropout": dropout})
    values = make_batch([3, 6, 4, 7], [1, 2, 0, 3])
    results = []
    for vision_blocks, text in ((0, False), (1, True)):
        model = make_model(config).train()
        model.checkpoint_activations(vision_blocks, text)
        torch.manual_seed(1)
        loss = model(*values).loss
        loss.backward()
        results.append([loss.detach(), *(weight.grad for weight in model.parameters())])
    assert len(results[0]) == 1 + len(list(MODEL.parameters()))
    torch.testing.assert_close(results[0], results[1])


def test_steps_predict_the_logits_of_the_loss() -> None:
    pixels, ids, mask, labels = make_batch([5, 5], [2, 2])
    with torch.no_grad():
        logits = MODEL(pixels, ids, mask, labels, return_logits=True).logits
        cache = MODEL.prefill_images(MODEL.vision(pixels), 5)
        stepped = [MODEL.step(ids[:, None, :2], cache)]
        stepped += [MODEL.step(ids[:, None, position : position + 1], cache) for position in (2, 3)]
    torch.testing.assert_close(torch.cat(stepped, 1), logits[:, 1:], atol=1e-4, rtol=1e-4)
