"""The number of weights of a captioner, computed from its sizes alone."""

from cutline.config.model import CaptionConfig, TextConfig, VisionConfig


def count_parameters(config: CaptionConfig) -> int:
    """Return the number of weights of a captioner, without building it."""
    return _count_vision(config.vision) + _count_text(config.text, config.vision.embed_dim)


def _count_vision(config: VisionConfig) -> int:
    dim = config.embed_dim
    patch_embed = _count_linear(3 * config.patch_size**2, dim)
    tokens = dim + config.num_tokens * dim  # class token and position embeddings
    attention = _count_linear(dim, 3 * dim) + _count_linear(dim, dim)
    block = 2 * _count_norm(dim) + attention + _count_mlp(dim, config.mlp_dim)
    return patch_embed + tokens + config.depth * block + _count_norm(dim)


def _count_text(config: TextConfig, image_dim: int) -> int:
    dim = config.embed_dim
    embeddings = (config.vocab_size + config.max_positions) * dim + _count_norm(dim)
    self_attention = _count_linear(dim, 3 * dim) + _count_linear(dim, dim)
    cross_attention = 2 * _count_linear(dim, dim) + _count_linear(image_dim, 2 * dim)
    mlp = _count_mlp(dim, config.mlp_dim)
    layer = 3 * _count_norm(dim) + self_attention + cross_attention + mlp
    lm_head = _count_linear(dim, dim) + _count_norm(dim) + config.vocab_size
    return embeddings + config.depth * layer + lm_head


def _count_mlp(dim: int, hidden_dim: int) -> int:
    return _count_linear(dim, hidden_dim) + _count_linear(hidden_dim, dim)


def _count_linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _count_norm(dim: int) -> int:
    return 2 * dim
