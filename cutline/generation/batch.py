"""A running batch of requests with their own settings (continuous batching)."""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from cutline.config import GenerationConfig
from cutline.config.validation import reject
from cutline.errors import GenerationError
from cutline.generation.beam import BeamSearch
from cutline.generation.interfaces import CacheT, Hypothesis, Progress, Prompts, Search, Step
from cutline.generation.logits_processors import EncodeWords, LogitsProcessor
from cutline.generation.processor_chain import ProcessorChain
from cutline.generation.sample import Sampling

Result = tuple[Hashable, list[Hypothesis] | GenerationError]
"""the id of a request, and its captions, best first (none if the model's logits are NaN or every
token is forbidden), or the error of one of its logits processors"""
MakeSearch = Callable[[Prompts, Sequence[GenerationConfig], Sequence[LogitsProcessor]], Search]
"""make_search(prompts, configs, logits_processors) -> search; the configs differ in their seeds
only"""


@dataclass(frozen=True)
class NewRequests(Generic[CacheT]):
    """Images to caption that are not in the batch yet."""

    request_ids: Sequence[Hashable]
    """ids under which their captions are returned"""
    cache: CacheT
    """a new cache of these images, with one beam each"""
    prompts: Prompts
    """their prompts"""
    configs: Sequence[GenerationConfig]
    """their settings; `seed` is that of the image"""
    logits_processors: Sequence[Sequence[LogitsProcessor]] | None = None
    """for each, those of the user, besides those of its settings (None: none)"""

    @property
    def kinds(self) -> list["_Kind"]:
        """Return what kind of search each of them needs."""
        processors = self.logits_processors or [()] * len(self.configs)
        return [
            _Kind(replace(config, seed=0) if config.seed else config, tuple(map(id, each)))
            for config, each in zip(self.configs, processors, strict=True)
        ]

    def make_search(self, make_search: "MakeSearch", rows: Sequence[int]) -> Search:
        """Make the search of the requests `rows`, which are of one kind."""
        processors = self.logits_processors[rows[0]] if self.logits_processors else ()
        configs = [self.configs[row] for row in rows]
        return make_search(self.prompts.select(rows), configs, processors)


class _Kind(NamedTuple):
    """What requests that share a search have in common."""

    config: GenerationConfig
    """their settings, without the seed"""
    processor_ids: tuple[int, ...]
    """the identities of their logits processors, which the search keeps in memory"""


def make_search(
    prompts: Prompts,
    configs: Sequence[GenerationConfig],
    logits_processors: Sequence[LogitsProcessor] = (),
    encode_words: EncodeWords | None = None,
) -> Search:
    """Make the search for requests whose settings differ in their seeds only.

    Args:
        prompts: Their prompts.
        configs: Their settings.
        logits_processors: Those of the user, which they share.
        encode_words: Encodes the `bad_words` of the settings, if there are any.

    Raises:
        ConfigError: A prompt is not shorter than `max_length`.
    """
    config = configs[0]
    check_prompt_length(int(prompts.lengths.max()), config)
    device = prompts.input_ids.device
    processors = ProcessorChain(config, prompts.end_id, device, encode_words, logits_processors)
    if config.num_beams > 1 and not config.sample:
        return BeamSearch(prompts, config, processors)
    seeds = [config.seed for config in configs] if config.sample else None
    return Sampling(prompts, config, seeds, processors)


def check_prompt_length(num_tokens: int, config: GenerationConfig) -> None:
    """Raise ConfigError unless a prompt of `num_tokens` is shorter than `max_length`."""
    if num_tokens >= config.max_length:
        problem = f"{config.max_length} leaves no room for a caption: it includes the prompt, which"
        reject(config, "max_length", f"{problem} has {num_tokens} tokens; raise max_length")


@dataclass
class _Group:
    """Requests that share a search."""

    search: Search
    slots: list[int]
    """the slot of each image of the search, ascending"""
    error: GenerationError | None = None
    """that of a logits processor, which ends the search"""

    def advance(self, logits: Tensor) -> Tensor:
        """Choose the next tokens, given logits (B, K, V); return which images are done, (B,)."""
        try:
            return self.search.advance(logits)
        except GenerationError as error:
            self.error = error
            return torch.ones(len(self.slots), dtype=torch.bool, device=logits.device)

    def finalize(self, rows: Sequence[int]) -> Sequence[list[Hypothesis] | GenerationError]:
        """Return the captions of images that are done, best first, or the error."""
        if self.error is not None:
            return [self.error] * len(rows)
        return self.search.finalize(torch.tensor(rows, device=self.search.next_tokens.device))


class Batch(Generic[CacheT]):
    """Requests that are captioned together.

    Each step of the model continues all requests, whatever their settings. Requests with the same
    logits processors, whose settings differ in their seeds only, share a search. Images with fewer
    beams than others are padded to the same number.

    Attributes:
        request_ids: The ids of the requests, by slot.
    """

    def __init__(
        self,
        step: Step[CacheT],
        cache: CacheT | None = None,
        make_search: MakeSearch = make_search,
    ) -> None:
        """Make an empty batch.

        Args:
            step: Runs the model: step(input_ids (B, K, T), cache) -> next-token logits (B, K, V).
            cache: An empty cache (None: that of the first requests, which must have room for
                others).
            make_search: Makes the search of new requests.
        """
        self.request_ids: list[Hashable] = []
        self._step, self._cache, self._make_search = step, cache, make_search
        self._groups: dict[_Kind, _Group] = {}

    def __len__(self) -> int:
        return len(self.request_ids)

    def add(self, requests: NewRequests[CacheT]) -> list[Result]:
        """Run the prompts of new requests, then let them join; return those that are done already.

        The prompts run in the requests' own cache. If that fails, the batch is unchanged.

        Raises:
            ConfigError: A prompt is not shorter than its `max_length`.
        """
        new = Batch(self._step, requests.cache)
        new.request_ids = list(requests.request_ids)
        rows_by_kind: dict[_Kind, list[int]] = {}
        for row, kind in enumerate(requests.kinds):
            rows_by_kind.setdefault(kind, []).append(row)
        for kind, rows in rows_by_kind.items():
            new._groups[kind] = _Group(requests.make_search(self._make_search, rows), rows)
        new._update_index()
        results = new._advance(self._step(requests.prompts.input_ids[:, None], requests.cache))
        self._extend(new)
        return results

    def advance(self) -> list[Result]:
        """Run one step; requests that are done leave the batch, and are returned."""
        assert self._cache is not None
        input_ids = self._gather([group.search.next_tokens for group in self._groups.values()])
        return self._advance(self._step(input_ids[..., None], self._cache))

    def remove(self, request_ids: Collection[Hashable]) -> None:
        """Remove requests before they are done; their slots are free at once."""
        self._remove(
            {s for s, request_id in enumerate(self.request_ids) if request_id in request_ids}
        )

    def progress(self, request_id: Hashable) -> Progress:
        """Return what is known of the captions of a request in the batch."""
        slot = self.request_ids.index(request_id)
        group = next(group for group in self._groups.values() if slot in group.slots)
        return group.search.progress(group.slots.index(slot))

    def _advance(self, logits: Tensor) -> list[Result]:
        """Choose the next tokens; remove requests that are done and return their captions."""
        groups = list(self._groups.values())
        done = torch.cat(
            [
                group.advance(self._select_logits(logits, number))
                for number, group in enumerate(groups)
            ]
        )
        done_flags, results = iter(done.tolist()), list[Result]()
        finished: set[int] = set()
        for group in groups:
            rows = [row for row, _ in enumerate(group.slots) if next(done_flags)]
            if rows:
                slots = [group.slots[row] for row in rows]
                ids = (self.request_ids[slot] for slot in slots)
                results += zip(ids, group.finalize(rows), strict=True)
                finished.update(slots)
        if finished:
            self._remove(finished)
        if self.request_ids and self._cache is not None:
            beams = [group.search.beam_indices for group in self._groups.values()]
            self._cache.reorder(self._gather(beams))
        return results

    def _extend(self, new: "Batch[CacheT]") -> None:
        """Append the requests of another batch."""
        if not new.request_ids:
            return
        assert new._cache is not None
        for kind, group in new._groups.items():
            slots = [len(self) + slot for slot in group.slots]
            if kind in self._groups:
                self._groups[kind].search.extend(group.search)
                self._groups[kind].slots += slots
            else:
                self._groups[kind] = _Group(group.search, slots)
        was_empty = not self.request_ids
        self.request_ids += new.request_ids
        max_tokens = max(kind.config.max_length for kind in self._groups)
        num_beams = max(group.search.next_tokens.shape[1] for group in self._groups.values())
        if self._cache is None:
            self._cache = new._cache
            self._cache.resize(max_tokens, num_beams)
        else:
            self._cache.resize(max_tokens, num_beams, exact=was_empty)
            self._cache.extend(new._cache)
        self._update_index()

    def _remove(self, slots: Collection[int]) -> None:
        assert self._cache is not None
        order = compact([slot not in slots for slot in range(len(self))])
        new_slots = {old: new for new, old in enumerate(order)}
        device = self._order.device
        for kind, group in list(self._groups.items()):
            kept = sorted(
                (new_slots[slot], row) for row, slot in enumerate(group.slots) if slot in new_slots
            )
            rows = [row for _, row in kept]
            if not rows:
                del self._groups[kind]
            elif rows != list(range(len(group.slots))):
                group.search.select(torch.tensor(rows, device=device))
            group.slots = [slot for slot, _ in kept]
        self.request_ids = [self.request_ids[old] for old in order]
        self._cache.select(torch.tensor(order, dtype=torch.long, device=device))
        self._update_index()

    def _update_index(self) -> None:
        """Compute which rows of the searches belong to which slots, after any change of these."""
        groups = list(self._groups.values())
        device = groups[0].search.next_tokens.device if groups else None
        self._slots = [torch.tensor(group.slots, device=device) for group in groups]
        by_group = [slot for group in groups for slot in group.slots]
        self._order = torch.tensor(by_group, dtype=torch.long, device=device).argsort()

    def _select_logits(self, logits: Tensor, number: int) -> Tensor:
        """Return the logits of the images and beams of group `number`; a single group has all."""
        if len(self._groups) == 1:
            return logits
        width = list(self._groups.values())[number].search.next_tokens.shape[1]
        return logits[:, :width][self._slots[number]]

    def _gather(self, values: Sequence[Tensor]) -> Tensor:
        """Join (B', K') of each group to (B, K) in the order of the slots, padded with zeros."""
        if len(values) == 1:
            return values[0]
        num_beams = max(value.shape[1] for value in values)
        padded = [pad(value, (0, num_beams - value.shape[1])) for value in values]
        return torch.cat(padded)[self._order]


def compact(kept: Sequence[bool]) -> list[int]:
    """Return the slots that are kept, in an order that moves few of them.

    Slots within the first ones stay where they are; later ones fill the gaps.
    """
    slots = [slot for slot, keep in enumerate(kept) if keep]
    later = [slot for slot in slots if slot >= len(slots)]
    return [slot if kept[slot] else later.pop(0) for slot in range(len(slots))]
