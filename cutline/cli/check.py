"""`cutline check`."""

import sys
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cutline.cli.flags import Data, DataFlags, Flags, Output
from cutline.config import Cleaning
from cutline.errors import ConfigError
from cutline.progress import progress_bar as progress

if TYPE_CHECKING:
    from cutline.tokenizer import Tokenizer


def check(
    data: Data,
    output: Output = "",
    *,
    report: str = "",
    against: str = "",
    against_split: str = "",
    model: Annotated[str, arg(aliases=["-m"])] = "",
    tokenizer: str = "",
    prompt: str = "a picture of ",
    clean: Cleaning = "blip",
    max_words: int = 30,
    max_tokens: int = 40,
    workers: int = 0,
    where: Annotated[DataFlags, Flags] = DataFlags(),  # frozen
) -> int:
    """Read a data set and say what is wrong with it, before hours are spent on it.

    Ends with code 3 where images are missing, unreadable, without a usable caption, or in the data of --against, too; and where none of
    those can be read.

    Args:
        output: also write the findings, one row each: .jsonl.
        report: also write an HTML page with histograms, copies side by side, and a sample of the images.
        against: other data, such as the validation set, that must not hold the same images; its captions are not read.
        against_split: split of it, likewise.
        model: captioner whose vocabulary the captions are read with (default: tokens are not looked at).
        tokenizer: that vocabulary itself: vocab.txt or tokenizer.json.
        prompt: what stands before each caption; it counts in --max-tokens.
        clean: caption cleaning: blip (lower case, punctuation dropped) or none.
        max_words: words after which training cuts captions.
        max_tokens: tokens after which it does, prompt included.
        workers: processes that open images (0: threads of this process).
    """
    from cutline.check import check as run
    from cutline.check import summarize, write_check_report
    from cutline.data import write_captions

    if output and not output.lower().endswith(".jsonl"):
        raise ConfigError(f"{output}: check writes its findings to a .jsonl file")
    if against_split and not against:
        raise ConfigError("--against-split is a split of the data that --against names; give both")
    found = run(
        data,
        image_root=where.image_root,
        columns=where.columns,
        split=where.split,
        against=against or None,
        against_split=against_split,
        tokenizer=load_vocabulary(model, tokenizer),
        prompt=prompt,
        clean=clean,
        max_words=max_words,
        max_tokens=max_tokens,
        workers=workers,
        progress=lambda looks, total: progress(looks, total, "reading"),
    )
    sys.stdout.write(summarize(found))
    if output:
        write_captions(
            output,
            [{"kind": row.kind, "image": row.image, "detail": row.detail} for row in found.rows],
        )
    if report:
        write_check_report(report, found)
    return 3 if found.harmful else 0


def load_vocabulary(model: str, tokenizer: str) -> "Tokenizer | None":
    """What --tokenizer or else --model names, if either does; no weights are read."""
    if tokenizer:
        from cutline.tokenizer import Tokenizer

        return Tokenizer.load(tokenizer)
    if model:
        from cutline.checkpoint import load_tokenizer

        return load_tokenizer(model)
    return None
