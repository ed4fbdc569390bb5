"""Token merging: each block of the vision encoder merges its most similar tokens.

Bolya et al., 2023, arXiv 2210.09461, with its proportional attention. Between attention and MLP of
a block, the tokens alternate into two sets. Each token of the first one finds its most similar
token of the second one, by the cosine of their keys, averaged over heads. The R most similar pairs
merge. Merged tokens keep their order; the class token is the first of the first set, and never
merges. A token that stands for s patches counts as s tokens wherever it is attended to: the
logarithm of s is added to its scores.

While tokens merge, `assignment` (B, N) holds, for each original token, the index of the merged
token that contains it. The encoder returns image_embeds (B, N', D + 1): a last channel holds the
sizes, so that they go wherever the embeddings go. In bf16, sizes above 256 are rounded to eight
bits.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def init_assignment(x: Tensor) -> Tensor:
    """Return the assignment (B, N) of tokens x (B, N, D), none of which have merged yet."""
    return torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)


def count_sizes(assignment: Tensor, num_tokens: int) -> Tensor:
    """Return the sizes (B, N') of N' = `num_tokens` tokens, given their assignment (B, N)."""
    sizes = torch.zeros(assignment.shape[0], num_tokens, device=assignment.device)
    return sizes.scatter_add(1, assignment, torch.ones_like(assignment, dtype=sizes.dtype))


def compute_size_bias(sizes: Tensor) -> Tensor:
    """Return what is added to attention scores for tokens of these sizes (B, N): (B, 1, 1, N)."""
    return sizes.log()[:, None, None]


def append_sizes(x: Tensor, assignment: Tensor) -> Tensor:
    """Append a channel with the sizes of tokens.

    Args:
        x: (B, N', D).
        assignment: (B, N).

    Returns:
        (B, N', D + 1).
    """
    return torch.cat([x, count_sizes(assignment, x.shape[1])[..., None].to(x.dtype)], -1)


def split_sizes(image_embeds: Tensor, dim: int) -> tuple[Tensor, Tensor | None]:
    """Return the embeddings, and the bias for their sizes; None if they have no sizes.

    Args:
        image_embeds: (B, N, D), or (B, N', D + 1) of merged tokens.
        dim: D.
    """
    if image_embeds.shape[-1] == dim:
        return image_embeds, None
    return image_embeds[..., :dim], compute_size_bias(image_embeds[..., dim].float())


def merge_similar_tokens(
    x: Tensor, assignment: Tensor, keys: Tensor, num_merged: int
) -> tuple[Tensor, Tensor]:
    """Merge the most similar pairs of tokens; each becomes their mean, weighted by their sizes.

    Args:
        x: (B, N, D), the class token first.
        assignment: (B, N_0) for N_0 original tokens, see the top of the file.
        keys: (B, H, N, d), by which tokens are similar.
        num_merged: R, at most (N - 1) // 2.

    Returns:
        The tokens (B, N - R, D), and their assignment.
    """
    batch, num_tokens, dim = x.shape
    merged, target = match_tokens(keys, num_merged)
    kept, new_index = renumber_tokens(merged, target, num_tokens)
    new_assignment = new_index.gather(1, assignment)
    size = count_sizes(assignment, num_tokens).gather(1, merged)
    new_sizes = count_sizes(new_assignment, num_tokens - num_merged)
    share = size / new_sizes.gather(1, new_index.gather(1, merged))  # (B, R)

    # Rows of one matrix, because PyTorch copies whole rows faster than it gathers single values.
    rows, first = x.flatten(0, 1), torch.arange(batch, device=x.device)[:, None] * num_tokens
    change = share[..., None] * (rows[merged + first] - rows[target + first])  # (B, R, D)
    # A product with ones and zeros, because adding to rows by number is not deterministic on a GPU.
    is_target = torch.arange(num_tokens, device=x.device)[:, None] == target[:, None]  # (B, N, R)
    x = x + is_target.to(x.dtype) @ change.to(x.dtype)
    remaining = x.flatten(0, 1).index_select(0, (kept + first).flatten())
    return remaining.view(batch, -1, dim), new_assignment


@torch.no_grad()
def match_tokens(keys: Tensor, num_merged: int) -> tuple[Tensor, Tensor]:
    """Find the R most similar pairs of a token of the first set and one of the second.

    Args:
        keys: (B, H, N, d).
        num_merged: R.

    Returns:
        The tokens that merge, all different, and those that they merge into, (B, R) each.
    """
    with torch.autocast(keys.device.type, enabled=False):  # in bf16, many would be equally similar
        direction = F.normalize(keys.float().mean(1), dim=-1)  # (B, N, d)
        similarity = direction[:, ::2] @ direction[:, 1::2].transpose(1, 2)
    best, partner = similarity.max(-1)  # (B, A) for the A tokens of the first set
    # The class token, the first one, comes last.
    best = torch.cat([torch.full_like(best[:, :1], -torch.inf), best[:, 1:]], 1)
    chosen = best.sort(dim=-1, descending=True, stable=True)[1][:, :num_merged]
    return 2 * chosen, 2 * partner.gather(1, chosen) + 1


def renumber_tokens(merged: Tensor, target: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Return the tokens that remain, and new indices in their order.

    Args:
        merged: (B, R), the tokens that merge.
        target: (B, R), those that they merge into.
        num_tokens: N.

    Returns:
        The tokens that remain (B, N - R), and the new index of each of the N tokens.
    """
    is_merged = torch.zeros(merged.shape[0], num_tokens, dtype=torch.long, device=merged.device)
    is_merged = is_merged.scatter(1, merged, 1)
    order = is_merged.sort(dim=1, stable=True)[1]
    new_index = (1 - is_merged).cumsum(1) - 1
    new_index = new_index.scatter(1, merged, new_index.gather(1, target))
    return order[:, : num_tokens - merged.shape[1]], new_index
