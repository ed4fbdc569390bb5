"""Momentum distillation against BLIP's `BLIP_Retrieval.forward`, written again here; its queues."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from match_networks import make_network
from tiny_model import make_images, make_texts
from torch import Tensor
from torch.nn import functional as F

from cutline.model import MatchTrainingModel
from cutline.model.match_loss import contrastive_loss, find_positives
from cutline.model.momentum import Embeddings, MomentumEncoders, fit_width

DECAY = 0.8


def make_momentum_network(queue_size: int, num_keys: int = 1) -> MatchTrainingModel:
    """Return a network whose momentum encoders are not equal to it."""
    network = make_network()
    network.add_momentum(DECAY, queue_size, num_keys)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    return network


def encoders(network: MatchTrainingModel) -> MomentumEncoders:
    assert network.momentum is not None
    return network.momentum


class Reference:
    """`BLIP_Retrieval`'s momentum features, queues and `loss_ita`, as in blip_retrieval.py."""

    def __init__(self, network: MatchTrainingModel, queue_size: int) -> None:
        momentum = encoders(network)
        self.network = network
        self.params_m = {name: w.clone() for name, w in momentum.named_parameters()}
        self.image_queue = momentum.queued_images.T.clone()
        self.text_queue = momentum.queued_texts.T.clone()
        self.idx_queue = torch.full((1, queue_size), -100)
        self.ptr, self.queue_size = 0, queue_size

    def momentum_update(self) -> None:
        params = dict(self.network.named_parameters())
        for name, param_m in self.params_m.items():
            self.params_m[name] = param_m * DECAY + params[name].detach() * (1.0 - DECAY)

    def loss_ita(
        self, image: Tensor, ids: Tensor, mask: Tensor, idx: Tensor, alpha: float
    ) -> Tensor:
        network, temp = self.network, self.network.temperature
        image_feat = F.normalize(network.vision_proj(network.vision(image)[:, 0, :]), dim=-1)
        text_feat = F.normalize(network.text_proj(network.read_texts(ids, mask)[:, 0, :]), dim=-1)
        idx = idx.view(-1, 1)
        idx_all = torch.cat([idx.t(), self.idx_queue.clone().detach()], dim=1)
        pos_idx = torch.eq(idx, idx_all).float()
        sim_targets = pos_idx / pos_idx.sum(1, keepdim=True)
        with torch.no_grad():
            self.momentum_update()
            image_feat_m, text_feat_m = self.features_m(image, ids, mask)
            image_feat_m_all = torch.cat([image_feat_m.t(), self.image_queue], dim=1)
            text_feat_m_all = torch.cat([text_feat_m.t(), self.text_queue], dim=1)
            sim_i2t_m = image_feat_m @ text_feat_m_all / temp
            sim_t2i_m = text_feat_m @ image_feat_m_all / temp
            sim_i2t_targets = alpha * F.softmax(sim_i2t_m, dim=1) + (1 - alpha) * sim_targets
            sim_t2i_targets = alpha * F.softmax(sim_t2i_m, dim=1) + (1 - alpha) * sim_targets
        sim_i2t = image_feat @ text_feat_m_all / temp
        sim_t2i = text_feat @ image_feat_m_all / temp
        loss_i2t = -torch.sum(F.log_softmax(sim_i2t, dim=1) * sim_i2t_targets, dim=1).mean()
        loss_t2i = -torch.sum(F.log_softmax(sim_t2i, dim=1) * sim_t2i_targets, dim=1).mean()
        self.dequeue_and_enqueue(image_feat_m, text_feat_m, idx)
        return (loss_i2t + loss_t2i) / 2

    def features_m(self, image: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        momentum_m = make_network()
        momentum_m.load_state_dict(self.params_m, strict=False)
        image_embeds_m = momentum_m.vision(image)
        text_output_m = momentum_m.read_texts(ids, mask)
        return (
            F.normalize(momentum_m.vision_proj(image_embeds_m[:, 0, :]), dim=-1),
            F.normalize(momentum_m.text_proj(text_output_m[:, 0, :]), dim=-1),
        )

    def dequeue_and_enqueue(self, image_feats: Tensor, text_feats: Tensor, idxs: Tensor) -> None:
        ptr, batch_size = self.ptr, len(image_feats)
        assert self.queue_size % batch_size == 0
        self.image_queue[:, ptr : ptr + batch_size] = image_feats.T
        self.text_queue[:, ptr : ptr + batch_size] = text_feats.T
        self.idx_queue[:, ptr : ptr + batch_size] = idxs.T
        self.ptr = (ptr + batch_size) % self.queue_size


def test_steps_are_those_of_the_reference() -> None:
    """Losses, gradients, momentum weights and queues over four steps, in which images repeat."""
    network = make_momentum_network(queue_size=6)
    momentum, reference = encoders(network), Reference(network, queue_size=6)
    for step, idx in enumerate(torch.tensor([[1, 2, 3], [4, 1, 5], [3, 3, 2], [7, 8, 9]])):
        alpha = 0.4 * min(1, step / 2)
        network.clamp_temperature()
        image, (ids, mask) = make_images(3, seed=step), make_texts([5, 9, 4], seed=step)
        expected = reference.loss_ita(image, ids, mask, idx, alpha)
        expected.backward()
        gradients = {name: weight.grad for name, weight in network.named_parameters()}
        network.zero_grad()
        momentum.alpha = alpha
        momentum.follow(network)
        loss = network(image, ids, mask, idx[:, None], idx)
        torch.testing.assert_close(loss.itc, expected)
        loss.itc.backward()
        for name, weight in network.named_parameters():
            if gradients[name] is not None:
                torch.testing.assert_close(weight.grad, gradients[name])
        with torch.no_grad():
            for weight in network.parameters():
                if weight.grad is not None:
                    weight.sub_(0.1 * weight.grad)
        network.zero_grad()
        for name, weight in momentum.named_parameters():
            assert weight.grad is None
            torch.testing.assert_close(weight, reference.params_m[name])
        torch.testing.assert_close(momentum.queued_images, reference.image_queue.T)
        torch.testing.assert_close(momentum.queued_texts, reference.text_queue.T)


def test_soft_targets_by_hand() -> None:
    """Softmax of (ln 3, 0) is (3/4, 1/4), and of (0, 0) it is (1/2, 1/2)."""
    similarities = torch.tensor([[math.log(3), 0.0]])
    momentum, positives = torch.tensor([[0.0, 0.0]]), torch.tensor([[True, False]])
    loss = contrastive_loss(similarities, positives, momentum, alpha=0.4)
    target = (0.4 * 0.5 + 0.6, 0.4 * 0.5)
    expected = -target[0] * math.log(3 / 4) - target[1] * math.log(1 / 4)
    assert float(loss) == pytest.approx(expected)


def test_without_alpha_the_copies_change_no_target() -> None:
    """And with equal copies and no queue, the loss is that without momentum."""
    network = make_network()
    ids, mask = make_texts([5, 9, 3])
    keys = torch.tensor([1, 2, 3])
    inputs = make_images(3), ids, mask, keys[:, None], keys
    expected = network(*inputs).itc
    network.add_momentum(DECAY, queue_size=0, num_keys=1)
    torch.testing.assert_close(network(*inputs).itc, expected)


def make_rows(count: int, seed: int = 0, num_keys: int = 2) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, count, 8, generator=generator)
    text_keys = torch.randint(1, 1000, (count,), generator=generator)
    others = torch.randint(1, 1000, (count, num_keys - 1), generator=generator)
    return Embeddings(images, texts, torch.cat([text_keys[:, None], others], 1), text_keys)


@settings(max_examples=25)
@given(st.integers(1, 9), st.lists(st.integers(0, 12), max_size=6))
def test_queues_hold_the_latest_rows(size: int, counts: list[int]) -> None:
    """Whatever the numbers of rows in the steps."""
    network = make_network()
    momentum = MomentumEncoders(network, DECAY, size, num_keys=2)
    start = momentum.queued_texts.clone()
    steps = [make_rows(count, seed) for seed, count in enumerate(counts)]
    for rows in steps:
        momentum.enqueue(rows)
    written = [(key, text) for rows in steps for key, text in zip(rows[3], rows[1], strict=True)]
    latest = written[-size:]
    queued = list(zip(momentum.queued_text_keys, momentum.queued_texts, strict=True))
    for key, text in latest:
        assert any(key == other and torch.equal(text, row) for other, row in queued)
    assert int((momentum.queued_text_keys == -1).sum()) == size - len(latest)
    if not latest:
        assert torch.equal(momentum.queued_texts, start)


def test_queued_texts_and_images_are_positives_by_their_texts() -> None:
    """A queued text equal to one of the image's own captions, and a queued image with that text."""
    momentum = MomentumEncoders(make_network(), DECAY, queue_size=4, num_keys=2)
    earlier = make_rows(2)._replace(
        image_keys=torch.tensor([[5, 6], [7, 0]]), text_keys=torch.tensor([6, 7])
    )
    momentum.enqueue(earlier)
    own = make_rows(1)._replace(image_keys=torch.tensor([[6, 8]]), text_keys=torch.tensor([8]))
    others = momentum.append_queue(own)
    assert find_positives(own.image_keys, others.text_keys).tolist() == [[True, True] + [False] * 3]
    own = own._replace(text_keys=torch.tensor([5]))
    found = find_positives(momentum.append_queue(own).image_keys, own.text_keys).T
    assert found.tolist() == [[False, True] + [False] * 3]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_every_text_of_a_queued_image_is_a_positive(count: int) -> None:
    """Also if the image has as many texts as are remembered."""
    momentum = MomentumEncoders(make_network(), DECAY, queue_size=1, num_keys=5)
    keys = torch.arange(1, count + 1)
    momentum.enqueue(make_rows(1)._replace(image_keys=keys[None], text_keys=keys[-1:]))
    assert find_positives(momentum.queued_image_keys, keys).all()


def test_an_image_with_too_many_texts_keeps_its_own() -> None:
    momentum = MomentumEncoders(make_network(), DECAY, queue_size=1, num_keys=1)
    rows = make_rows(1)._replace(
        image_keys=torch.tensor([[3, 4, 5, 9]]), text_keys=torch.tensor([9])
    )
    momentum.enqueue(rows)
    assert momentum.queued_image_keys.tolist() == [[9, 3]]


def test_only_training_steps_fill_the_queues() -> None:
    """Not a check of the weights, nor a validation, and no row that stands in for a batch."""
    network = make_momentum_network(queue_size=5)
    ids, mask = make_texts([4, 4])
    keys = torch.tensor([3, 4])

    def count_filled() -> int:
        return int((encoders(network).queued_text_keys > 0).sum())

    def run(keys: Tensor) -> None:
        network(make_images(2), ids, mask, keys[:, None], keys)

    with torch.no_grad():
        run(keys)
    network.eval()
    run(keys)
    network.train()
    run(torch.tensor([0, 0]))
    assert count_filled() == 0
    run(keys)
    assert count_filled() == 2


def test_the_copies_hold_no_more_than_they_need() -> None:
    names = {name for name, _ in encoders(make_momentum_network(3)).named_parameters()}
    assert not any("cross_attn" in name or "norm2" in name for name in names if "text" in name)
    assert {"vision_proj.weight", "text_proj.bias", "text.layers.1.self_attn.qkv.weight"} <= names


def test_cached_embeddings_serve_the_frozen_copy() -> None:
    network = make_network()
    network.add_momentum(DECAY, queue_size=0, num_keys=1)
    ids, mask = make_texts([5, 9])
    keys, images = torch.tensor([1, 2]), make_images(2)
    expected = network(images, ids, mask, keys[:, None], keys)
    embeds = network.vision(images)
    actual = network(None, ids, mask, keys[:, None], keys, image_embeds=embeds)
    torch.testing.assert_close(actual, expected)
    assert fit_width(keys[:, None], 3).tolist() == [[1, 0, 0], [2, 0, 0]]
