"""Limits of settings that several parts of a recipe share, far above what is of use."""

MAX_IMAGE_SIZE = 8192
"""side of an image, in pixels"""
MAX_WIDTH = 16_384
"""width of an encoder or decoder, and rank of LoRA"""
MAX_DEPTH = 256
"""number of blocks or layers"""
MAX_MERGED_TOKENS = 1_000_000
"""visual tokens that merge in a block"""
MAX_VOCAB_SIZE = 4_000_000
"""size of a vocabulary"""
MAX_BATCH_SIZE = 1_000_000
"""images or examples of one batch"""
MAX_QUEUE_SIZE = 10_000_000
"""embeddings in a queue of momentum encoders"""
MAX_WORKERS = 1024
"""processes that load images"""
