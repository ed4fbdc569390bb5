"""The training network of a matcher against BLIP's `BLIP_Retrieval.forward`, written again here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from match_networks import ENC, make_network
from tiny_model import make_images, make_texts
from torch import Tensor
from torch.nn import functional as F

from cutline.model import MatchLoss, MatchTrainingModel
from cutline.model.match_loss import draw_negatives
from cutline.model.match_training import MAX_TEMPERATURE, MIN_TEMPERATURE


def compute_losses(network: MatchTrainingModel, keys: Tensor, lengths: list[int]) -> MatchLoss:
    ids, mask = make_texts(lengths)
    return network(make_images(len(lengths)), ids, mask, keys[:, None], keys)


def compute_reference_losses(
    network: MatchTrainingModel, image: Tensor, ids: Tensor, mask: Tensor, idx: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `loss_ita` and `loss_itm` as blip_retrieval.py does, without momentum and queue."""
    bs, temp = len(image), network.temperature
    image_embeds = network.vision(image)
    image_feat = F.normalize(network.vision_proj(image_embeds[:, 0, :]), dim=-1)
    text_output = network.read_texts(ids, mask)
    text_feat = F.normalize(network.text_proj(text_output[:, 0, :]), dim=-1)
    idx = idx.view(-1, 1)
    pos_idx = torch.eq(idx, idx.t()).float()
    sim_targets = pos_idx / pos_idx.sum(1, keepdim=True)
    sim_i2t = image_feat @ text_feat.t() / temp
    sim_t2i = text_feat @ image_feat.t() / temp
    loss_i2t = -torch.sum(F.log_softmax(sim_i2t, dim=1) * sim_targets, dim=1).mean()
    loss_t2i = -torch.sum(F.log_softmax(sim_t2i, dim=1) * sim_targets, dim=1).mean()
    loss_ita = (loss_i2t + loss_t2i) / 2
    encoder_input_ids = ids.clone()
    encoder_input_ids[:, 0] = ENC
    output_pos = network.read_pairs(encoder_input_ids, mask, image_embeds)
    mask_pos = torch.eq(idx, idx.t())
    weights_i2t = F.softmax(sim_i2t, dim=1).masked_fill(mask_pos, 0)
    weights_t2i = F.softmax(sim_t2i, dim=1).masked_fill(mask_pos, 0)
    images_neg = [image_embeds[int(torch.multinomial(weights_t2i[b], 1))] for b in range(bs)]
    numbers = [int(torch.multinomial(weights_i2t[b], 1)) for b in range(bs)]
    output_neg = network.read_pairs(
        torch.cat([encoder_input_ids, encoder_input_ids[numbers]]),
        torch.cat([mask, mask[numbers]]),
        torch.cat([torch.stack(images_neg), image_embeds]),
    )
    vl_embeddings = torch.cat([output_pos[:, 0, :], output_neg[:, 0, :]])
    itm_labels = torch.cat([torch.ones(bs).long(), torch.zeros(2 * bs).long()])
    return loss_ita, F.cross_entropy(network.itm_head(vl_embeddings), itm_labels)


def test_losses_and_gradients_are_those_of_the_reference() -> None:
    """With two pairs, the negatives are certain."""
    network = make_network()
    ids, mask = make_texts([5, 9])
    image, idx = make_images(2), torch.tensor([4, 9])
    expected = compute_reference_losses(network, image, ids, mask, idx)
    sum(expected).backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    network.zero_grad()
    loss = network(image, ids, mask, idx[:, None], idx)
    torch.testing.assert_close((loss.itc, loss.itm), expected)
    (loss.itc + loss.itm).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        torch.testing.assert_close(weight.grad, gradients[name])
    assert float(loss.temperature) == pytest.approx(0.07)


def test_itc_is_that_of_the_reference_with_more_pairs() -> None:
    """Two of the five pairs are of the same image."""
    network = make_network()
    idx = torch.tensor([4, 9, 4, 1, 2])
    ids, mask = make_texts([5, 9, 3, 3, 7])
    expected, _ = compute_reference_losses(network, make_images(5), ids, mask, idx)
    torch.testing.assert_close(compute_losses(network, idx, [5, 9, 3, 3, 7]).itc, expected)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(0, 99))
def test_pairs_that_all_belong_together_have_no_negatives(count: int, seed: int) -> None:
    """ITM is then that of the matching pairs alone, and ITC that of uniform targets."""
    network = make_network().eval()
    torch.manual_seed(seed)
    keys, lengths = torch.full((count,), 7), [4] * count
    loss = compute_losses(network, keys, lengths)
    ids, mask = make_texts(lengths)
    ids[:, 0] = ENC
    logits = network.classify(network.read_pairs(ids, mask, network.vision(make_images(count))))
    expected = F.cross_entropy(logits, torch.ones(count, dtype=torch.long))
    torch.testing.assert_close(loss.itm, expected)
    assert torch.isfinite(loss.itc)


def test_the_temperature_is_clamped() -> None:
    network = make_network()
    for value, expected in ((-1.0, MIN_TEMPERATURE), (3.0, MAX_TEMPERATURE), (0.2, 0.2)):
        with torch.no_grad():
            network.temperature.fill_(value)
        network.clamp_temperature()
        assert float(network.temperature.detach()) == pytest.approx(expected)


def test_all_ranks_are_one_in_a_single_process() -> None:
    keys = torch.tensor([1, 2, 3])
    losses = []
    for all_ranks in (False, True):
        torch.manual_seed(0)
        losses.append(compute_losses(make_network(all_ranks), keys, [3, 4, 5]))
    torch.testing.assert_close(losses[0], losses[1])


def test_embeddings_in_place_of_pixels_give_the_same_losses() -> None:
    network = make_network()
    ids, mask = make_texts([5, 9])
    keys = torch.tensor([1, 2])
    image = make_images(2)
    expected = network(image, ids, mask, keys[:, None], keys)
    embeds = network.vision(image)
    actual = network(None, ids, mask, keys[:, None], keys, image_embeds=embeds)
    torch.testing.assert_close(actual, expected)


def test_one_hard_negative_is_drawn_nearly_always() -> None:
    """A low temperature makes the most similar wrong text certain."""
    similarities = torch.tensor([[9.0, 5.0, 8.0]]) / MIN_TEMPERATURE
    assert draw_negatives(similarities, torch.tensor([[True, False, False]])).tolist() == [2]
