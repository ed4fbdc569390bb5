"""`Captioner`, the main class of the package: images in, captions out."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import numpy as np
import torch

from cutline.batching import BatchRunner, Caption, CaptionRequest
from cutline.batching.inputs import (
    Inputs,
    check_count,
    check_prompt,
    pair_inputs,
    to_image_list,
    to_processor_list,
)
from cutline.batching.stream import read_outcomes, stream_captions
from cutline.checkpoint import CheckpointSource, OnnxFolder, build_empty_model, build_model
from cutline.confidence import Calibration, load_calibration
from cutline.config import (
    CaptionConfig,
    DeviceConfig,
    Engine,
    GenerationConfig,
    GenerationKwargs,
    InferenceConfig,
    InferencePrecision,
    reject_renamed_keywords,
)
from cutline.config.validation import require_choice
from cutline.engine.onnx import attach_graphs
from cutline.errors import ConfigError, CutlineError, ImageError
from cutline.generation import LogitsProcessor, check_prompt_length
from cutline.image import (
    ImagePrefetcher,
    ImageSource,
    OpenedImage,
)
from cutline.matcher import Matcher
from cutline.matching import number_distinct, to_text_list
from cutline.model import CaptionModel
from cutline.predictor import Predictor
from cutline.reranking import Reranker
from cutline.scoring import (
    CaptionScore,
    RankBy,
    RankedCaption,
    encode_for_scoring,
    rank_captions,
    score_captions,
)
from cutline.tokenizer import EncodedText

CAPTION_ARGUMENTS = (
    "prompt",
    "batch_size",
    "num_workers",
    "seeds",
    "rerank",
    "keep",
    "logits_processor",
)
"""arguments of `Captioner.caption` besides images and the fields of `GenerationConfig`"""
MAX_WAIT = 1.0  # seconds that others wait for an image, so that batches do not depend on timing


class Captioner(Predictor[CaptionModel]):
    """A model and its tokenizer, on a device, ready to caption; for attributes see `Predictor`.

    Attributes:
        calibration: What the confidence of words and captions is scaled with; None for none.
        fingerprint: That of its checkpoint, see `Checkpoint.fingerprint`; "" if `load` did not make
            the captioner.
        source: Where `load` found the model; None for one that was made in another way.
    """

    calibration: Calibration | None = None
    fingerprint: str = ""
    source: CheckpointSource | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_idle_runners", "eager_copy"):
            state.pop(name, None)
        return state

    @property
    def config(self) -> CaptionConfig:
        """Return the model's sizes and its prompt."""
        return self.model.config

    def caption(
        self,
        images: ImageSource | Sequence[ImageSource],
        prompt: str | Sequence[str] | None = None,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        seeds: Sequence[int] | None = None,
        rerank: Matcher | None = None,
        keep: int | None = None,
        logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None = None,
        **settings: Unpack[GenerationKwargs],
    ) -> list[Caption]:
        """Caption images.

        Args:
            images: A path, bytes, PIL image or (H, W, 3) uint8 array, or a sequence of them.
            prompt: The beginning of the captions: one for all, or one per image (default: the
                model's own).
            batch_size: Number of images captioned together.
            num_workers: Number of processes that open images; 0 for threads of this process.
            seeds: For sampling, a seed for each image instead of `seed`. With equal seeds, equal
                images get equal captions.
            rerank: A matcher, from `cutline.load_matcher`, that ranks the captions of each image by
                match probability, `Caption.match`; the first of them is then the caption. The text
                without the prompt is matched.
            keep: With `rerank`, number of captions to keep of each image, best first (default:
                all).
            logits_processor: A function, or several, that change the scores of the next token
                after the settings did, and before temperature, top_k and top_p: see
                `LogitsProcessor`. Those of transformers are such functions.
            **settings: Fields of `GenerationConfig`, such as num_beams=5 or sample=True.

        Returns:
            One caption per image, in order.

        Raises:
            ImageError: An image cannot be read; the message names it.
            ConfigError: A setting is unknown or invalid, or a prompt is too long.
            GenerationError: An image cannot be captioned.
        """
        # Check settings first: `stream` knows further arguments, and gets a smaller batch_size.
        self.make_config(settings, CAPTION_ARGUMENTS)
        InferenceConfig(batch_size=batch_size)
        image_list = to_image_list(images)
        for name, values in (("prompt", prompt), ("seed", seeds)):
            if values is not None and not isinstance(values, str):
                check_count(name, values, len(image_list))
        captions = []
        # A cache for fewer images than `batch_size` needs less memory.
        batch_size = min(batch_size, max(1, len(image_list)))
        for result in self.stream(
            image_list,
            prompt,
            batch_size=batch_size,
            num_workers=num_workers,
            seeds=seeds,
            rerank=rerank,
            keep=keep,
            logits_processor=logits_processor,
            **settings,
        ):
            if isinstance(result, CutlineError):
                raise result
            captions.append(result)
        return captions

    def stream(
        self,
        images: Iterable[ImageSource],
        prompt: str | Iterable[str] | None = None,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        ordered: bool = True,
        seeds: Iterable[int] | None = None,
        rerank: Matcher | None = None,
        keep: int | None = None,
        logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None = None,
        **settings: Unpack[GenerationKwargs],
    ) -> Iterator[Caption | CutlineError]:
        """Caption any number of images, lazily.

        Images are opened in the background and captioned by continuous batching: a finished image
        leaves the batch at once, and the next one takes its slot. At most 2 * batch_size images
        are taken from the input beyond those whose results have been returned.

        A sequence, such as a list, is captioned in batches that do not depend on timing, unless an
        image takes more than a second to open, or `ordered` is false. Any other iterable is read in
        a thread of its own, and an image is captioned as soon as it arrives, even if the next one,
        such as that of a camera, takes long.

        Args:
            images: Any iterable of images.
            prompt: As for `caption`, or any iterable of prompts.
            batch_size: Number of images captioned together.
            num_workers: Number of processes that open images; 0 for threads of this process.
                Processes help where a GPU waits for images; a script that uses them needs
                `if __name__ == "__main__":`.
            ordered: Whether to return results in the order of the input, else as they are done.
            seeds: As for `caption`, or any iterable of seeds.
            rerank: As for `caption`.
            keep: As for `caption`.
            logits_processor: As for `caption`.
            **settings: Fields of `GenerationConfig`, such as num_beams=5 or sample=True.

        Returns:
            An iterator over the results: a `Caption`, or the error of an image that cannot be read
            (`ImageError`), has a prompt that is too long (`ConfigError`) or cannot be captioned
            (`GenerationError`). The attribute `index` of each is the number of its image. If
            `images` raises an error, the iterator raises it after the results of the images before.

        Raises:
            ConfigError: A setting is unknown or invalid, or the prompt of all images is too long.
        """
        config = self.make_config(settings, (*CAPTION_ARGUMENTS, "ordered"))
        inference = InferenceConfig(batch_size=batch_size, num_workers=num_workers)  # checks both
        processors = to_processor_list(logits_processor)
        if seeds is not None and not config.sample:
            raise ConfigError("seeds are for sampling only: set sample=True, or remove them")
        if keep is not None and rerank is None:
            raise ConfigError("keep is for captions that are ranked: give a matcher as rerank")
        reranker = Reranker(self, rerank, keep, config.num_captions) if rerank is not None else None
        prompt = self.config.prompt if prompt is None else prompt
        if isinstance(prompt, str):
            check_prompt_length(len(self.tokenizer.encode_prompt(prompt)), config)
        prompts = itertools.repeat(prompt) if isinstance(prompt, str) else prompt
        seeds = itertools.repeat(config.seed) if seeds is None else seeds
        # Reading a sequence does not block, so each image can wait for its turn.
        is_sequence = isinstance(images, Sequence | np.ndarray) and isinstance(prompt, Sequence)
        in_order = ordered and is_sequence
        self.check_process()
        pairs = pair_inputs(images, prompts, seeds)
        make_request = partial(self._make_request, config, processors, reranker)
        return self._stream(pairs, make_request, inference, in_order, ordered, reranker)

    @torch.inference_mode()
    def _stream(
        self,
        pairs: Iterator[tuple[ImageSource, Inputs]],
        make_request: Callable[[OpenedImage[Inputs]], CaptionRequest | CutlineError],
        inference: InferenceConfig,
        in_order: bool,
        ordered: bool,
        reranker: Reranker | None,
    ) -> Iterator[Caption | CutlineError]:
        runner = self._acquire_runner(inference.batch_size)
        read_results = reranker.rank if reranker else read_outcomes
        with ImagePrefetcher(
            pairs,
            self.config.vision.image_size,
            2 * inference.batch_size,
            inference.num_workers,
            in_order,
            max_wait=MAX_WAIT,
            second_size=reranker.second_size if reranker else None,
        ) as prefetcher:
            yield from stream_captions(prefetcher, runner, make_request, ordered, read_results)
            self._idle_runners = [runner]
            prefetcher.raise_error()

    def make_config(
        self, settings: GenerationKwargs, other_arguments: Sequence[str]
    ) -> GenerationConfig:
        """Return generation settings that were given as keyword arguments.

        Args:
            settings: The keyword arguments.
            other_arguments: Names of further arguments, to be listed in errors.

        Raises:
            ConfigError: A setting is unknown, invalid, or beyond what the model can do.
        """
        names = [setting.name for setting in fields(GenerationConfig)]
        reject_renamed_keywords(settings, (*other_arguments, *names))
        config = GenerationConfig(**settings)
        positions = self.config.text.max_positions
        if config.max_length > positions:
            raise ConfigError(
                f"max_length {config.max_length} is above the model's {positions} positions: "
                "lower max_length"
            )
        self.tokenizer.encode_bad_words(config.bad_words)  # checks them
        return config

    def _make_request(
        self,
        config: GenerationConfig,
        logits_processors: tuple[LogitsProcessor, ...],
        reranker: Reranker | None,
        image: OpenedImage[Inputs],
    ) -> CaptionRequest | CutlineError:
        """Return the request of an image, or the error of one that cannot be captioned."""
        if isinstance(image.pixels, ImageError):
            return image.pixels
        prompt, seed = image.item
        prompt = self.config.prompt if prompt is None else prompt
        try:
            check_prompt(prompt)
            config = config if seed == config.seed else replace(config, seed=seed)
            prompt_ids = self.tokenizer.encode_prompt(prompt)
            check_prompt_length(len(prompt_ids), config)
        except ConfigError as error:
            return ConfigError(f"image {image.index}: {error}")
        request = CaptionRequest(image.index, config, prompt_ids, name=f"image {image.index}")
        request.pixels, request.logits_processors = image.pixels, logits_processors
        if reranker:
            reranker.prepare(request, image)
        return request

    @cached_property
    def eager_copy(self) -> "Captioner":
        """Return the captioner that `source` names, in fp32 with engine eager, which has gradients.

        Raises:
            ConfigError: There is no source, or it has other weights now.
            CheckpointError: The source cannot be read any more.
        """
        if self.source is None:
            raise ConfigError(
                "this captioner has no gradients and was not loaded from a file: "
                'make it with precision="fp32" and engine="eager", or load it with cutline.load'
            )
        with torch.inference_mode(False):  # tensors made in inference mode have no gradients
            checkpoint = self.source.load()
            if checkpoint.fingerprint() != self.fingerprint:
                raise ConfigError(
                    f"{self.source.path}: has other weights than when this captioner was loaded: "
                    "load it again"
                )
            device = str(self.device) if self.device.type == "cuda" else self.device.type
            model = build_model(checkpoint)
            return Captioner(model, checkpoint.tokenizer, device, "fp32", "eager")

    def make_runner(self, slots: int) -> BatchRunner:
        """Return a new runner of requests."""
        record_steps = self.engine != "eager" and self.device.type == "cuda"
        return BatchRunner(
            self.model,
            self.tokenizer,
            self.encode_images,
            slots,
            record_steps,
            self.calibration,
        )

    @cached_property
    def _idle_runners(self) -> list[BatchRunner]:
        """Return a list with the runner of the last call, unless another call uses it."""
        return []

    def _acquire_runner(self, slots: int) -> BatchRunner:
        """Return the runner of the last call if it is idle and has the same slots, else a new one.

        Reuse saves allocating its memory and, on a GPU, capturing its CUDA graph again. `list.pop`
        is atomic, so that two threads never get the same runner.
        """
        try:
            runner = self._idle_runners.pop()
        except IndexError:
            return self.make_runner(slots)
        if runner.max_slots == slots:
            runner.calibration = self.calibration
            return runner
        del runner  # free its memory first
        return self.make_runner(slots)

    def score(
        self,
        images: ImageSource | Sequence[ImageSource],
        captions: str | Sequence[str],
        prompt: str | None = None,
        *,
        batch_size: int = 8,
    ) -> list[CaptionScore]:
        """Compute the log-likelihood of captions, given their images and the prompt.

        Images are opened in the background. Each one is encoded once, even if it is given several
        times (the same path, or the same object), and its captions are scored together. Scores do
        not depend on the batch, except for rounding.

        Args:
            images: One per caption, or one for all of them.
            captions: Used as they are, without cleaning.
            prompt: The text before each caption, which is not scored (default: the model's own).
            batch_size: Number of images that are encoded, and whose captions are scored, together.

        Returns:
            One score per caption, in order.

        Raises:
            ImageError: An image cannot be read; the message names it.
            ConfigError: The numbers of images and captions differ, or a caption is too long.
        """
        InferenceConfig(batch_size=batch_size)  # checks it
        self.check_process()
        prompt = self.config.prompt if prompt is None else prompt
        check_prompt(prompt)
        image_list, texts = to_image_list(images), to_text_list(captions)
        if not texts:
            return []
        if len(image_list) not in (1, len(texts)):
            raise ConfigError(
                f"there are {len(image_list)} images and {len(texts)} captions: "
                "give one image per caption, or one image for all"
            )
        encoded = encode_for_scoring(texts, prompt, self.tokenizer, self.config.text.max_positions)
        distinct, numbers = number_distinct(image_list)
        numbers = numbers * len(texts) if len(numbers) == 1 else numbers
        rows: list[list[EncodedText]] = [[] for _ in distinct]
        for number, row in zip(numbers, encoded, strict=True):
            rows[number].append(row)
        scores: list[list[CaptionScore]] = []
        for batch in self.encode_batches(zip(distinct, rows, strict=True), batch_size):
            with self.inference():
                scores += score_captions(batch.items, batch.require_embeds(), self.model)
        following = [iter(each) for each in scores]
        return [next(following[number]) for number in numbers]

    def rank(
        self,
        image: ImageSource,
        captions: Sequence[str],
        prompt: str | None = None,
        *,
        by: RankBy = "log_prob",
    ) -> list[RankedCaption]:
        """Rank captions of an image, best first.

        "log_prob" is the log-likelihood of the whole caption, summed over its tokens, as in
        `rank_answer` of BLIP (models/blip_vqa.py), which sums the loss; its loss is smoothed, and
        this is not. It favors short captions; "perplexity" is per token.

        Args:
            image: The image.
            captions: The captions.
            prompt: As for `score`.
            by: What to rank by: "log_prob" or "perplexity".

        Returns:
            All of them, with their scores; equally likely ones in the order of the input.

        Raises:
            ImageError: The image cannot be read.
            ConfigError: A caption is too long, or `by` is unknown.
        """
        require_choice("by", by, get_args(RankBy))
        texts = to_text_list(captions)
        return rank_captions(texts, self.score([image], texts, prompt), by)


def load(
    path: str | Path,
    device: str = "auto",
    precision: InferencePrecision = "auto",
    *,
    engine: Engine = "auto",
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    merge_tokens: int | None = None,
    calibration: str | Path | Literal[False] | None = None,
) -> Captioner:
    """Load a captioner.

    Args:
        path: A hub id, a .pth file of BLIP, a Hugging Face folder, a cutline folder, a training
            run, or a folder of ONNX graphs.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto" is CUDA if available, else the CPU.
        precision: "fp32", "bf16" or "int8" (CPU only); "auto" is that of ONNX graphs, else bf16
            where the hardware has native bf16, else fp32.
        engine: "auto" is "onnx" for ONNX graphs, which only it runs, on the CPU, and else "packed".
            "packed" repacks the weights for a CPU, and runs decoding steps as CUDA graphs on a
            GPU; "compiled" also compiles the vision encoder with torch.compile; "openvino" (CPU
            only) also runs it in OpenVINO; "eager" leaves the model as it is, so that it can be
            trained or saved.
        config: Sizes of a .pth, which does not contain them: a preset (base, large, tiny), a
            `CaptionConfig` or a JSON file (default: inferred from the weights).
        tokenizer: Vocabulary of a .pth, which does not contain one: vocab.txt or tokenizer.json.
        image_size: Another image size in pixels; position embeddings are interpolated.
        merge_tokens: Number of similar visual tokens to merge in each block of the vision encoder,
            at most half: faster, but less accurate (default: the model's own, usually 0).
        calibration: A calibration.json of `cutline calibrate`, which scales the confidence of words
            and captions (default: that in the model's folder, if there is one); False for none.

    Returns:
        The captioner, on its device.

    Raises:
        CheckpointError: The weights cannot be read or do not fit.
        ConfigError: A setting is invalid.
    """
    DeviceConfig(device, precision, engine)  # checks names before any weights are read
    source = CheckpointSource(path, config, tokenizer, image_size, merge_tokens)
    if graphs := source.load_graphs():
        graphs.check_settings(device, precision, engine)
        captioner = _run_graphs(graphs)
        captioner.calibration = load_calibration(calibration, graphs.folder, graphs.fingerprint)
        captioner.fingerprint, captioner.source = graphs.fingerprint, source
        return captioner
    checkpoint = source.load()
    fingerprint = checkpoint.fingerprint()
    scaling = load_calibration(calibration, checkpoint.folder, fingerprint)
    model, loaded_tokenizer = build_model(checkpoint), checkpoint.tokenizer
    del checkpoint  # so that each weight is freed once it is repacked
    captioner = Captioner(model, loaded_tokenizer, device, precision, engine)
    captioner.calibration, captioner.fingerprint = scaling, fingerprint
    captioner.source = source
    return captioner


def _run_graphs(graphs: OnnxFolder) -> Captioner:
    """Return the captioner of ONNX graphs."""
    model = build_empty_model(graphs.config)
    assert isinstance(model, CaptionModel)
    attach_graphs(model, graphs.folder)
    return Captioner(model.eval(), graphs.tokenizer, "cpu", graphs.precision, "onnx")
