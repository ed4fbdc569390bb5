"""The network of pre-training against BLIP's `BLIP_Pretrain.forward`, written again here."""

import pytest
import torch
from match_networks import DEC, ENC, make_pretrain_network
from tiny_model import VOCAB, make_images, make_texts
from torch import Tensor
from torch.nn import functional as F

from cutline.config import CaptionConfig
from cutline.model import (
    CaptionModel,
    MatchModel,
    PretrainModel,
    join_pretrained,
    make_lm_labels,
    split_pretrained,
)


def build_captioner(network: PretrainModel) -> CaptionModel:
    config = network.config
    model = CaptionModel(CaptionConfig(config.vision, config.text, config.image, "", 0.1))
    model.load_state_dict(split_pretrained(network.state_dict())[0])
    return model


def build_matcher(network: PretrainModel) -> MatchModel:
    model = MatchModel(network.config)
    model.load_state_dict(split_pretrained(network.state_dict())[1])
    return model


def compute_reference_losses(network: PretrainModel, image: Tensor, ids: Tensor, mask: Tensor):
    """Return `loss_ita`, `loss_itm` and `loss_lm` of blip_pretrain.py without momentum.

    Encoder and decoder are models of their own, with copies of the weights that are shared.
    """
    encoder, decoder, bs = build_matcher(network), build_captioner(network), len(image)
    image_embeds = encoder.vision(image)
    image_feat = F.normalize(encoder.vision_proj(image_embeds[:, 0, :]), dim=-1)
    text_feat = F.normalize(encoder.text_proj(encoder.read_texts(ids, mask)[:, 0, :]), dim=-1)
    sim_i2t = image_feat @ text_feat.t() / network.temperature
    sim_t2i = text_feat @ image_feat.t() / network.temperature
    sim_targets = torch.eye(bs)
    loss_i2t = -torch.sum(F.log_softmax(sim_i2t, dim=1) * sim_targets, dim=1).mean()
    loss_t2i = -torch.sum(F.log_softmax(sim_t2i, dim=1) * sim_targets, dim=1).mean()
    loss_ita = (loss_i2t + loss_t2i) / 2
    encoder_input_ids = ids.clone()
    encoder_input_ids[:, 0] = ENC
    output_pos = encoder.read_pairs(encoder_input_ids, mask, image_embeds)
    other = [1, 0]  # the only negative of two pairs
    output_neg = encoder.read_pairs(
        torch.cat([encoder_input_ids, encoder_input_ids[other]]),
        torch.cat([mask, mask[other]]),
        torch.cat([image_embeds[other], image_embeds]),
    )
    vl_output = encoder.itm_head(torch.cat([output_pos[:, 0, :], output_neg[:, 0, :]]))
    itm_labels = torch.cat([torch.ones(bs).long(), torch.zeros(2 * bs).long()])
    loss_itm = F.cross_entropy(vl_output, itm_labels)
    decoder_input_ids = ids.clone()
    decoder_input_ids[:, 0] = DEC
    decoder_targets = decoder_input_ids.masked_fill(mask == 0, -100)
    hidden = decoder.text(decoder_input_ids, mask, decoder.vision(image))
    prediction_scores = decoder.text.compute_logits(hidden)[:, :-1, :]
    loss_fct = torch.nn.CrossEntropyLoss(reduction="mean", label_smoothing=0.1)
    loss_lm = loss_fct(prediction_scores.reshape(-1, VOCAB), decoder_targets[:, 1:].reshape(-1))
    return encoder, decoder, (loss_ita, loss_itm, loss_lm)


def test_losses_and_gradients_are_those_of_the_reference() -> None:
    """A shared weight has the gradients of the text encoder and of the text decoder, summed."""
    network = make_pretrain_network()
    image, (ids, mask), keys = make_images(2), make_texts([5, 9]), torch.tensor([4, 9])
    encoder, decoder, expected = compute_reference_losses(network, image, ids, mask)
    loss = network(image, ids, mask, keys[:, None], keys)
    torch.testing.assert_close((loss.itc, loss.itm, loss.lm), expected)
    torch.testing.assert_close(loss.total, sum(expected))
    loss.total.backward()
    sum(expected).backward()
    weights = dict(network.named_parameters())
    assert all(weight.grad is not None for weight in weights.values())
    gradients = [
        {name: weight.grad for name, weight in model.named_parameters()}
        for model in (decoder, encoder)
    ]
    for name, weight in weights.items():
        own = name.replace(".decoder.", ".")
        parts = [each[own] for each in gradients if own in each]
        if ".decoder." in name:
            parts = parts[:1]
        elif ".self_attn." in name or (".norm1." in name and name.startswith("text.")):
            parts = parts[1:]
        if name != "temperature":
            torch.testing.assert_close(weight.grad, sum(parts))


def test_only_the_self_attention_and_the_head_are_not_shared() -> None:
    names = {name for name, _ in make_pretrain_network().named_parameters()}
    decoder = {name for name in names if ".decoder." in name}
    layer = {name.split(".decoder.")[1].split(".")[0] for name in decoder}
    assert layer == {"self_attn", "norm1"}
    assert len(decoder) == 2 * 6
    assert any("lm_head" in name for name in names)


def test_halves_join_to_the_whole() -> None:
    network = make_pretrain_network()
    captioner, matcher = split_pretrained(network.state_dict())
    joined = join_pretrained(network, captioner, matcher)
    state = network.state_dict()
    assert state.keys() - joined.keys() == {"temperature"}
    assert all(torch.equal(weight, state[name]) for name, weight in joined.items())


@pytest.mark.parametrize("part", ["captioner", "matcher"])
def test_a_half_gives_both_their_self_attention(part: str) -> None:
    network = make_pretrain_network()
    captioner, matcher = split_pretrained(network.state_dict())
    halves = {"captioner": (captioner, {}), "matcher": ({}, matcher)}[part]
    joined = join_pretrained(network, *halves)
    for name in ("text.layers.0.{}self_attn.qkv.weight", "text.layers.1.{}norm1.bias"):
        source = (captioner if part == "captioner" else matcher)[name.format("")]
        assert torch.equal(joined[name.format("decoder.")], source)
        assert torch.equal(joined[name.format("")], source)
    missing = {name.split(".")[0] for name in network.state_dict().keys() - joined.keys()}
    heads = {"vision_proj", "text_proj", "itm_head", "temperature"}
    assert missing == (heads if part == "captioner" else {"text", "temperature"})


def test_momentum_follows_the_text_encoder_alone() -> None:
    network = make_pretrain_network()
    network.add_momentum(0.5, queue_size=4, num_keys=1)
    assert network.momentum is not None
    names = {name for name, _ in network.momentum.named_parameters()}
    assert not any(".decoder." in name or "lm_head" in name for name in names)
    network.momentum.follow(network)
    image, (ids, mask), keys = make_images(2), make_texts([5, 9]), torch.tensor([4, 9])
    network(image, ids, mask, keys[:, None], keys).total.backward()
    assert all(weight.grad is None for weight in network.momentum.parameters())


def test_an_empty_batch_has_no_loss() -> None:
    network = make_pretrain_network()
    image, (ids, mask), keys = make_images(1), make_texts([2]), torch.tensor([0])
    loss = network(image, ids, mask, keys[:, None], keys)
    assert torch.isfinite(loss.total)
    assert float(loss.lm.detach()) == 0


def test_labels_are_all_tokens_but_the_first() -> None:
    ids, mask = make_texts([3, 5])
    labels = make_lm_labels(ids, mask, torch.tensor([1, 1]))
    network = make_pretrain_network().eval()
    start = torch.full_like(ids[:, :1], DEC)
    inputs = torch.cat([start, ids[:, 1:]], 1)
    captioner, image = build_captioner(network).eval(), make_images(2)
    expected = captioner(image, inputs, mask, labels, reduction="mean").loss
    keys = torch.tensor([1, 2])
    torch.testing.assert_close(network(image, ids, mask, keys[:, None], keys).lm, expected)
