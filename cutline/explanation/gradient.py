"""Heat-maps from cross-attention weighted by gradients, which need engine eager in fp32.

Grad-CAM of cross-attention is by ALBEF (Li et al., 2021, arXiv 2107.07651, section 5 of whose
supplement); the heads are averaged as by Chefer et al. (2021, arXiv 2103.15679).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutline.captioner import Captioner
from cutline.explanation.target import Target, pad_token_ids, sum_words


def choose_captioner(captioner: Captioner) -> Captioner:
    """Return a captioner of the same weights that has gradients.

    Raises:
        ConfigError: There is none, and it cannot be loaded.
    """
    weight = captioner.model.text.token_embed.weight
    is_fp32 = captioner.engine == "eager" and captioner.precision == "fp32"
    return captioner if is_fp32 and not weight.is_inference() else captioner.eager_copy


def map_gradient(captioner: Captioner, targets: Sequence[Target]) -> list[Tensor]:
    captioner = choose_captioner(captioner)
    with captioner.inference(), torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            image_embeds = captioner.encode_images(torch.stack([t.pixels for t in targets]))
        ids = pad_token_ids(targets, captioner.device)
        text = captioner.model.text
        hidden, layers = text.forward_with_attention(ids, image_embeds.requires_grad_())
        log_probs = text.compute_logits(hidden[:, :-1]).log_softmax(-1)
        log_probs = log_probs.gather(2, ids[:, 1:, None])[..., 0]
        maps = []
        for row, target in enumerate(targets):
            rows = []
            for score in sum_words(log_probs[row], target.words):
                grads = torch.autograd.grad(score, layers, retain_graph=True)
                rows.append(
                    sum((a[row] * g[row]).clamp_min(0).sum((0, 1)) for a, g in zip(layers, grads))[
                        1:
                    ].detach()
                )
            maps.append(torch.stack(rows).cpu())
    return maps
