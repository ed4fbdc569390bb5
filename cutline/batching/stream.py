"""Caption a stream of images: the loop between the prefetcher and the runner."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cutline.batching.caption import Caption
from cutline.batching.caption_request import CaptionRequest
from cutline.batching.inputs import Inputs
from cutline.batching.runner import BatchRunner
from cutline.errors import CutlineError
from cutline.image import ImagePrefetcher, OpenedImage


def stream_captions(
    prefetcher: ImagePrefetcher[Inputs],
    runner: BatchRunner,
    make_request: Callable[[OpenedImage[Inputs]], CaptionRequest | CutlineError],
    ordered: bool,
    read_results: Callable[[Sequence[CaptionRequest]], list[Caption | CutlineError]],
) -> Iterator[Caption | CutlineError]:
    """Caption images as they are opened.

    Args:
        prefetcher: Opens the images.
        runner: Captions them.
        make_request: Makes the request of an image, or the error of one that has none.
        ordered: Whether to yield results in the order of the input, else as they are done.
        read_results: Returns the results of requests that are done, such as `read_outcomes`.

    Yields:
        The result of each image, with its number.
    """
    # `taken` counts the images whose results have not been yielded: they wait, run, or are done
    # before an earlier one, in `results`.
    taken, next_index = 0, 0
    waiting: list[CaptionRequest] = []
    results: dict[int, Caption | CutlineError] = {}
    while taken or not prefetcher.exhausted:
        wanted = min(runner.max_prefill - len(waiting), prefetcher.max_taken - taken)
        idle = not waiting and not len(runner)
        for image in prefetcher.take(max(0, wanted), wait=prefetcher.in_order or idle):
            taken += 1
            request = make_request(image)
            if isinstance(request, CutlineError):
                results[image.index] = request
            else:
                waiting.append(request)
        more = prefetcher.in_order and not prefetcher.exhausted and taken < prefetcher.max_taken
        done = runner.run_step(waiting, more_coming=more)
        for request, result in zip(done, read_results(done), strict=True):
            results[request.id] = result
        while results and (not ordered or next_index in results):
            index = next_index if ordered else next(iter(results))
            yield set_index(results.pop(index), index)
            next_index, taken = next_index + 1, taken - 1
            prefetcher.release()


def read_outcomes(requests: Sequence[CaptionRequest]) -> list[Caption | CutlineError]:
    """Return the captions, or the errors, of requests that are done."""
    outcomes = []
    for request in requests:
        assert isinstance(request.outcome, Caption | CutlineError)
        outcomes.append(request.outcome)
    return outcomes


def set_index(result: Caption | CutlineError, index: int) -> Caption | CutlineError:
    """Return a result with the number of its image."""
    if isinstance(result, Caption):
        alternatives = tuple(replace(caption, index=index) for caption in result.alternatives)
        return replace(alternatives[0], alternatives=alternatives)
    result.index = index
    return result
