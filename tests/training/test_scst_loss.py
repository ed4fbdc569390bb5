"""The gradient of SCST, against that of the expected reward of a model whose captions are few."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cutline.config import CaptionConfig, TextConfig, VisionConfig
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer
from cutline.training.tasks.scst_loss import compute_advantages, compute_policy_loss
from cutline.training.tasks.scst_reward import SampledCaption
from cutline.training.tasks.scst_samples import Sampler, Samples

TOKENIZER = Tokenizer.train(["a b"], 10)
MAX_LENGTH = 3
"""tokens of a caption, [DEC] included"""


def make_model(seed: int) -> CaptionModel:
    """Return a model in fp64 whose captions have very different likelihoods."""
    torch.manual_seed(seed)
    vision = VisionConfig(image_size=16, patch_size=16, embed_dim=8, depth=1, num_heads=1)
    text = TextConfig(
        vocab_size=TOKENIZER.vocab_size,
        embed_dim=8,
        depth=1,
        num_heads=1,
        mlp_dim=8,
        max_positions=8,
        dropout=0.0,
        attn_dropout=0.0,
    )
    model = CaptionModel(CaptionConfig(vision=vision, text=text, label_smoothing=0.1))
    with torch.no_grad():
        for weight in model.text.parameters():
            weight.normal_(std=0.7)
    return model.double()


def list_all_captions() -> Samples:
    """Return every caption of at most two tokens that a model can give for an image."""
    end, start = TOKENIZER.sep_id, TOKENIZER.dec_id
    others = [token for token in range(TOKENIZER.vocab_size) if token != end]
    rows = [[start, *words, end] for length in range(2) for words in product(others, repeat=length)]
    rows += [[start, *words] for words in product(others, repeat=2)]
    captions = [SampledCaption(" ".join(map(str, row[1:])), row[-1] == end) for row in rows]
    return Samples([captions], rows, [1] * len(rows))


MODEL, INITIAL, ALL = make_model(1), make_model(2), list_all_captions()
EMBEDS = torch.randn(1, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
REWARDS = torch.rand(
    len(ALL.token_ids), dtype=torch.float64, generator=torch.Generator().manual_seed(4)
)


def compute_gradient(compute: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return a function of the log-probabilities of all captions, and its gradient."""
    MODEL.zero_grad()
    value = compute(ALL.compute_log_probs(MODEL, EMBEDS)[0])
    weights = [weight for weight in MODEL.text.parameters() if weight.requires_grad]
    return value.detach(), [
        torch.zeros(()) if gradient is None else gradient
        for gradient in torch.autograd.grad(value, weights, allow_unused=True)
    ]


def test_the_captions_are_all_there_are() -> None:
    log_probs = ALL.compute_log_probs(MODEL, EMBEDS).detach()
    assert float(log_probs.exp().sum()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_expected_loss_and_gradient_are_those_of_the_expected_reward(
    kl_weight: float, baseline: str
) -> None:
    """The expectation is taken over all pairs of captions; n is 2."""
    with torch.no_grad():
        initial = ALL.compute_log_probs(INITIAL, EMBEDS)[0]

    def compute_exactly(log_probs: Tensor) -> Tensor:
        return -(log_probs.exp() * (REWARDS - kl_weight * (log_probs - initial))).sum()

    def compute_expectation(log_probs: Tensor) -> Tensor:
        pairs = torch.cartesian_prod(*[torch.arange(len(REWARDS))] * 2)
        rewards = (REWARDS - kl_weight * (log_probs.detach() - initial))[pairs]
        advantages = compute_advantages(rewards) if baseline != "greedy" else rewards - 0.7
        losses = compute_policy_loss(log_probs[pairs], advantages, rewards)
        return (log_probs.detach()[pairs].sum(1).exp() * losses.mean(1)).sum()

    exact, exact_gradient = compute_gradient(compute_exactly)
    value, gradient = compute_gradient(compute_expectation)
    assert_close(value, exact, rtol=1e-5, atol=1e-6)  # logits become fp32
    assert max(float(each.abs().max()) for each in exact_gradient) > 0.01
    assert_close(gradient, exact_gradient, rtol=1e-4, atol=1e-6)


def test_samples_are_from_the_undistorted_distribution() -> None:
    num_images, num_samples = 2000, 5
    count = num_images * num_samples
    sampler, model = Sampler(TOKENIZER, MAX_LENGTH), make_model(1).float()
    embeds = EMBEDS.float().expand(num_images, -1, -1)
    prompts = [[TOKENIZER.dec_id]] * num_images
    samples = sampler.sample(model, embeds, prompts, range(num_images), num_samples)
    probs = ALL.compute_log_probs(MODEL, EMBEDS)[0].exp().tolist()
    expected = dict(zip(map(tuple, ALL.token_ids), probs, strict=True))
    found = dict.fromkeys(expected, 0)
    for row in samples.token_ids:
        found[tuple(row)] += 1
    for row, prob in expected.items():
        error = math.sqrt(prob * (1 - prob) / count)
        assert abs(found[row] / count - prob) < 5 * error + 1 / count, row
    flags = [caption.is_finished for row in samples.captions for caption in row]
    ends = [row[-1] == TOKENIZER.sep_id for row in samples.token_ids]
    assert flags == ends
    assert 0 < sum(flags) < count


def test_log_probs_are_those_of_the_search() -> None:
    """Whatever the lengths of prompts, and without label smoothing."""
    model = make_model(1).float()
    embeds = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(1))
    prompts = [[TOKENIZER.dec_id, *range(5, 5 + length)] for length in range(3)]
    sampler = Sampler(TOKENIZER, max_length=8)
    samples = sampler.sample(model, embeds, prompts, [1, 2, 3], 4)
    log_probs = samples.compute_log_probs(model, embeds).detach()
    for row, ids in enumerate(samples.token_ids):
        length = len(prompts[row // 4])
        assert ids[:length] == prompts[row // 4]
        logits = (
            model.text.compute_logits(
                model.text(torch.tensor([ids]), None, embeds[row // 4 : row // 4 + 1])
            )[0]
            .log_softmax(-1)
            .detach()
        )
        expected = sum(float(logits[i - 1, ids[i]]) for i in range(length, len(ids)))
        assert float(log_probs.view(-1)[row]) == pytest.approx(expected, rel=1e-4)


def test_a_hand_worked_case() -> None:
    """Rewards 1, 3 and 5: each is compared with the mean of the others, 4, 3 and 2."""
    rewards = torch.tensor([[1.0, 3.0, 5.0], [2.0, 2.0, 2.0]])
    advantages = compute_advantages(rewards)
    assert advantages.tolist() == [[-3.0, 0.0, 3.0], [0.0, 0.0, 0.0]]
    log_probs = torch.tensor([[-1.0, -2.0, -4.0], [-1.0, -1.0, -1.0]], requires_grad=True)
    losses = compute_policy_loss(log_probs, advantages, rewards)
    assert losses.tolist() == (-rewards).tolist()
    losses.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [[3.0, 0.0, -3.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("reward", [0.1, 1 / 3, 2.7])
@pytest.mark.parametrize("num_samples", [2, 3, 5, 7])
def test_equal_rewards_have_no_gradient(reward: float, num_samples: int) -> None:
    rewards = torch.full((2, num_samples), reward)
    assert not compute_advantages(rewards).any()
