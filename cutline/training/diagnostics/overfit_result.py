"""The result of overfitting, and its text."""

from dataclasses import dataclass

LOSS_THRESHOLD = 0.05
"""loss per token or pair that ends the training"""


@dataclass(frozen=True)
class OverfitSample:
    """A training image with its reference and what the model gives for it."""

    image: str
    """display name of the image"""
    reference: str
    """the image's first caption, after cleaning, truncation and tokenization"""
    caption: str
    """the caption that a captioner generates, or the text that a matcher finds"""

    @property
    def exact(self) -> bool:
        """Return whether caption and reference are the same."""
        return self.caption == self.reference


@dataclass(frozen=True)
class OverfitResult:
    """Result of overfitting a few batches."""

    lr: float
    steps: int
    first_loss: float
    """loss per token of the first step"""
    last_loss: float
    """mean loss per token over the last pass through the batches"""
    samples: tuple[OverfitSample, ...]
    skipped: tuple[str, ...]
    """one message for each image that cannot be read"""
    conflicts: tuple[str, ...]
    """one sentence for each image that occurs twice with different captions"""
    answers: str = "generated"
    """how the captions of the samples come about: "generated" or "found" """
    unit: str = "token"
    """what the loss is averaged over: "token" or "pair" """

    @property
    def success(self) -> bool:
        """Return whether every caption equals its reference."""
        return all(sample.exact for sample in self.samples)

    @property
    def exit_code(self) -> int:
        """Return 0 for success, 1 if captions are wrong, 3 for success with skipped images."""
        return 1 if not self.success else 3 if self.skipped else 0

    @property
    def summary(self) -> str:
        """Return one sentence with the result, and with what to try if there was no success."""
        num_exact = sum(sample.exact for sample in self.samples)
        result = (
            f"loss {self.first_loss:.2f} → {self.last_loss:.2f} in {self.steps} steps "
            f"at lr {self.lr:g}; {num_exact} of {len(self.samples)} captions equal their references"
        )
        if self.success:
            return f"{result}: the model can overfit"
        if self.conflicts:
            return f"{result}: {'; '.join(self.conflicts)}"
        if self.last_loss < LOSS_THRESHOLD and self.unit == "token":
            return (
                f"{result}, although the loss is low: check that `model.prompt` is the text that "
                "the captions start with"
            )
        return (
            f"{result}: try another `optim.lr` (--lr-range suggests one) and fewer batches; then "
            "check --show-batch for captions of other images, a wrong prompt, or frozen weights"
        )

    def __str__(self) -> str:
        lines = [
            f"{sample.image}\n  reference  {sample.reference}\n"
            f"  {self.answers:<9}  {sample.caption}\n"
            for sample in self.samples
        ]
        lines += [f"skipped: {message}\n" for message in self.skipped]
        return "".join([*lines, self.summary, "\n"])
