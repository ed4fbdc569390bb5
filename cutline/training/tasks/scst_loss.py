"""The loss of self-critical sequence training (Rennie et al., 2017, arXiv 1612.00563).

Shapes: B images, n samples of each.
"""

from torch import Tensor


def compute_advantages(rewards: Tensor) -> Tensor:
    """Return each reward minus the mean reward of the image's other samples, (B, n).

    This is the leave-one-out baseline (Luo, 2020, arXiv 2003.09971).

    It is 0, to the bit, if all samples of an image have the same reward.
    """
    differences = rewards[:, :, None] - rewards[:, None, :]  # (B, n, n)
    return differences.sum(2) / (rewards.shape[1] - 1)


def compute_policy_loss(log_probs: Tensor, advantages: Tensor, rewards: Tensor) -> Tensor:
    """Return the loss of each sample: minus its reward, with the gradient of REINFORCE.

    Its mean over samples is an unbiased estimate of minus the expected reward, and so is its
    gradient of the gradient of that (Williams, 1992), as long as what the advantage subtracts from
    the reward does not depend on the sample.

    Args:
        log_probs: Log-probabilities of the samples, (B, n).
        advantages: Their rewards minus a baseline, (B, n).
        rewards: (B, n).
    """
    surrogate = -advantages * log_probs
    return surrogate - surrogate.detach() - rewards
