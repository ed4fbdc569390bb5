"""The task of pre-training: ITC, ITM and the LM loss on one batch, as in BLIP's `BLIP_Pretrain`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from cutline.checkpoint import Checkpoint, build_model
from cutline.checkpoint.kinds import AnyConfig
from cutline.config import CaptionConfig, MatchConfig
from cutline.data import Sample
from cutline.errors import CutlineError
from cutline.model import CaptionModel, PretrainModel, VisionTextModel, split_pretrained
from cutline.progress import Progress
from cutline.tokenizer import EncodedText, Tokenizer
from cutline.training.tasks.caption import CaptionTask
from cutline.training.tasks.match import MatchTask, make_match_checkpoint
from cutline.training.tasks.match_initial import TEMPERATURE
from cutline.training.tasks.pretrain_initial import init_pretraining, load_start
from cutline.training.tasks.task import TaskEvaluation

CAPTIONER, MATCHER = "captioner", "matcher"
"""subfolders of a checkpoint"""


@dataclass(frozen=True)
class PretrainTask(MatchTask):
    """Trains a captioner and a matcher that share weights; for the methods see `Task`."""

    answers = "generated"
    overfit_factor = 1  # captions are tried
    alpha_epochs: ClassVar[float] = 2.0

    def init_model(self, train: Sequence[Sample]) -> tuple[PretrainModel, Tokenizer]:
        """Start from a captioner, a matcher, both, pretrained encoders or random weights."""
        start = init_pretraining(self.recipe, train)
        model = self._new_model(start.config, start.tokenizer)
        load_start(self.recipe, model, start)
        self.add_momentum(model, train)
        return model, start.tokenizer

    def check(self, config: AnyConfig, tokenizer: Tokenizer, val: Sequence[Sample]) -> None:
        """Raise ConfigError if texts do not fit the model, or captions cannot be generated."""
        captions = CaptionTask(self.recipe)
        captions.check(self._make_caption_config(config), tokenizer, drop_prompts(val))

    def evaluate(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        progress: Progress,
    ) -> TaskEvaluation:
        """Measure matches and captions; the score is the product of the scores of both tasks."""
        assert isinstance(model, PretrainModel)
        matches = super().evaluate(model, tokenizer, samples, progress)
        captioner, texts = self._extract_caption_model(model, tokenizer), drop_prompts(samples)
        captions = CaptionTask(self.recipe).evaluate(captioner, tokenizer, texts, progress)
        metrics = matches.metrics | captions.metrics
        score = matches.score * captions.score
        return TaskEvaluation(metrics, score, captions.skipped, captions.images)

    def make_checkpoints(self, trained: Checkpoint[AnyConfig]) -> dict[str, Checkpoint[AnyConfig]]:
        """Return the captioner and the matcher."""
        captioner, matcher = split_pretrained(trained.weights)
        config = self._make_caption_config(trained.config)
        matcher[TEMPERATURE] = trained.weights[TEMPERATURE]
        return {
            CAPTIONER: Checkpoint(config, captioner, trained.tokenizer),
            MATCHER: make_match_checkpoint(replace(trained, weights=matcher)),
        }

    def chance_loss(self, vocab_size: int) -> tuple[str, float]:
        """Return the losses of a matcher that guesses, and of a captioner that does."""
        formula, loss = super().chance_loss(vocab_size)
        return f"{formula} + ln({vocab_size:,})", loss + math.log(vocab_size)

    def answer(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        references: Sequence[EncodedText],
    ) -> Sequence[str | CutlineError]:
        """Caption the images by greedy search."""
        assert isinstance(model, PretrainModel)
        captioner, texts = self._extract_caption_model(model, tokenizer), drop_prompts(samples)
        return CaptionTask(self.recipe).answer(captioner, tokenizer, texts, references)

    def _extract_caption_model(self, model: PretrainModel, tokenizer: Tokenizer) -> CaptionModel:
        """Return the captioner in a network, whose weights it shares."""
        weights, _ = split_pretrained(model.state_dict())
        config = self._make_caption_config(model.config)
        return build_model(Checkpoint(config, weights, tokenizer))

    def _make_caption_config(self, config: AnyConfig) -> CaptionConfig:
        return CaptionConfig(config.vision, config.text, config.image, "", self._label_smoothing)

    def _new_model(self, config: AnyConfig, tokenizer: Tokenizer) -> PretrainModel:
        assert isinstance(config, MatchConfig)
        all_ranks = self.recipe.match.negative_all_rank
        return PretrainModel(
            config, tokenizer.enc_id, tokenizer.dec_id, all_ranks, self._label_smoothing
        )

    @property
    def _label_smoothing(self) -> float:
        return self.recipe.model.to_config().label_smoothing


def drop_prompts(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples without prompts of their own."""
    return [replace(sample, prompt=None) for sample in samples]
