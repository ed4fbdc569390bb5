"""The language-model loss: by hand, in parts, per caption; what is scored and what is computed for it."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import VOCAB, pictures, texts, tiny_config, tiny_model
from torch import Tensor

from cutline.model import CaptionModel, lm_labels

MODEL = tiny_model()
quick = settings(max_examples=25, deadline=None, derandomize=True)
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def batch(
    lengths: list[int], prompts: list[int], seed: int = 0, images: int | None = None
) -> Batch:
    """pixel_values, input_ids, attention_mask and labels of captions of these lengths, their prompts not scored."""
    ids, mask = texts(lengths, seed)
    return (
        pictures(images or len(lengths), seed=seed),
        ids,
        mask,
        lm_labels(ids, mask, torch.tensor(prompts)),
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Captions of different lengths, each with at least one scored token after a prompt of its own length, 0 included."""
    lengths = draw(st.lists(st.integers(2, 7), min_size=1, max_size=5))
    return batch(
        lengths,
        [draw(st.integers(0, length - 1)) for length in lengths],
        draw(st.integers(0, 99)),
    )


def hand_losses(model: CaptionModel, values: Batch) -> list[float]:
    """The loss of each caption, token by token, one caption at a time, without padding."""
    smoothing, losses = model.config.label_smoothing, []
    for pixels, ids, mask, labels in zip(*values, strict=True):
        count = int(mask.sum())
        hidden = model.text(ids[None, :count], None, model.vision(pixels[None]))[0]
        total = 0.0
        for place in range(1, count):
            log_probs = model.text.logits(hidden[place - 1]).log_softmax(-1)
            if labels[place] != -100:
                total -= float(
                    (1 - smoothing) * log_probs[ids[place]] + smoothing * log_probs.mean()
                )
        losses.append(total)
    return losses


@torch.no_grad()
@quick
@given(batches(), st.sampled_from([0.0, 0.1, 0.6]))
def test_the_loss_by_hand(values: Batch, smoothing: float) -> None:
    model = tiny_model(tiny_config(label_smoothing=smoothing))
    expected = hand_losses(model, values)
    each = model(*values, reduction="none")
    assert each.loss.tolist() == pytest.approx(expected, rel=1e-4)
    assert int(each.token_count) == int((values[3][:, 1:] != -100).sum())
    assert model(*values).loss.item() == pytest.approx(sum(expected), rel=1e-4)
    assert model(*values, reduction="mean").loss.item() == pytest.approx(
        sum(expected) / int(each.token_count), rel=1e-4
    )


@torch.no_grad()
@quick
@given(batches(), st.data())
def test_any_split_of_a_batch_adds_up(values: Batch, data: st.DataObject) -> None:
    whole = MODEL(*values, reduction="mean")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values[0])))) | {0, len(values[0])})
    parts = [MODEL(*(tensor[start:stop] for tensor in values)) for start, stop in pairwise(cuts)]
    count = sum(int(part.token_count) for part in parts)
    assert count == int(whole.token_count)
    assert sum(part.loss.item() for part in parts) / count == pytest.approx(
        whole.loss.item(), rel=1e-4
    )


@torch.no_grad()
@quick
@given(batches(), st.sampled_from(["sum", "mean", "none"]))
def test_asking_for_logits_changes_no_loss(values: Batch, reduction: Any) -> None:
    rows: list[int] = []
    handle = MODEL.text.lm_head.register_forward_hook(
        lambda _, args, out: rows.append(out[..., 0].numel())
    )
    plain, full = (
        MODEL(*values, reduction=reduction),
        MODEL(*values, reduction=reduction, return_logits=True),
    )
    handle.remove()
    assert plain.logits is None
    assert rows == [
        int(plain.token_count),
        values[1].numel() - len(values[1]),
    ]  # logits only where they are scored
    torch.testing.assert_close(plain.loss, full.loss)
    states = MODEL.text(values[1], values[2], MODEL.vision(values[0]))
    torch.testing.assert_close(full.logits, MODEL.text.logits(states[:, :-1]))


@quick
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(0, 8)), min_size=1, max_size=4))
def test_padding_and_each_rows_own_prompt_are_not_scored(rows: list[tuple[int, int]]) -> None:
    ids, mask = texts([length for length, _ in rows])
    labels = lm_labels(ids, mask, torch.tensor([prompt for _, prompt in rows]))
    for number, (length, prompt) in enumerate(rows):
        for place in range(ids.shape[1]):
            assert labels[number, place] == (
                ids[number, place] if prompt <= place < length else -100
            )


@torch.no_grad()
def test_what_stands_at_padding_does_not_matter() -> None:
    pixels, ids, mask, labels = batch([3, 6, 4], [1, 2, 0])
    expected = MODEL(pixels, ids, mask, labels, reduction="none").loss
    other = torch.where(mask.bool(), ids, VOCAB - 1)
    torch.testing.assert_close(MODEL(pixels, other, mask, labels, reduction="none").loss, expected)


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_captions_of_a_picture_share_it(images: int, each: int, seed: int) -> None:
    lengths = [2 + (number * 5 + seed) % 6 for number in range(images * each)]
    pixels, *rest = batch(lengths, [1] * len(lengths), seed, images)
    losses, gradients = [], []
    for shown in (pixels, pixels.repeat_interleave(each, 0)):
        MODEL.zero_grad()
        loss = MODEL(shown, *rest, reduction="none").loss
        loss.sum().backward()
        losses.append(loss.detach())
        gradients.append(
            [weight.grad.clone() for weight in MODEL.parameters() if weight.grad is not None]
        )
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_a_caption_without_a_scored_token_costs_nothing() -> None:
    values = batch([3, 5], [3, 1])
    result = MODEL(*values, reduction="none")
    assert result.loss[0] == 0
    assert result.loss[1] > 0
    nothing = MODEL(*batch([3, 5], [3, 5]))
    assert nothing.loss == 0
    assert nothing.token_count == 0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_gives_the_same_loss_and_gradients(dropout: float) -> None:
    config = tiny_config({"drop_path": dropout}, {"dropout": dropout, "attn_dropout": dropout})
    values = batch([3, 6, 4, 7], [1, 2, 0, 3])
    results = []
    for vision_blocks, text in ((0, False), (1, True)):
        model = tiny_model(config).train()
        model.checkpoint_activations(vision_blocks, text)
        torch.manual_seed(1)
        loss = model(*values).loss
        loss.backward()
        results.append([loss.detach(), *(weight.grad for weight in model.parameters())])
    assert len(results[0]) == 1 + len(list(MODEL.parameters()))
    torch.testing.assert_close(results[0], results[1])


def test_a_step_after_the_start_predicts_what_the_loss_scores() -> None:
    pixels, ids, mask, labels = batch([5, 5], [2, 2])
    with torch.no_grad():
        logits = MODEL(pixels, ids, mask, labels, return_logits=True).logits
        cache = MODEL.start(MODEL.vision(pixels), 5)
        stepped = [MODEL.step(ids[:, None, :2], cache)]
        stepped += [MODEL.step(ids[:, None, place : place + 1], cache) for place in (2, 3)]
    torch.testing.assert_close(torch.cat(stepped, 1), logits[:, 1:], atol=1e-4, rtol=1e-4)
