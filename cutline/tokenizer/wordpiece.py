"""The tokenizer object: captions and prompts to ids, ids to captions."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from cutline.errors import ConfigError, DataError
from cutline.files import write_text
from cutline.tokenizer.read import BLIP, SPECIAL, assemble, read_tokenizer
from cutline.tokenizer.text import join_pieces, without_surrogates
from cutline.tokenizer.vocabulary import count_words, learn_pieces


class Tokenizer:
    """WordPiece with BLIP's [DEC] (start of a caption) and [ENC] (start of a text to match).

    Text is text: "[SEP]" in a caption becomes the pieces of "[", "sep", "]", never the special id.
    """

    vocab_size: int
    """pieces V, [DEC] and [ENC] included; every id is below it"""
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    dec_id: int
    enc_id: int

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        """`core` as `read_tokenizer` or `assemble` give it; see `Tokenizer.load` and `Tokenizer.train`."""
        core.encode_special_tokens = (
            True  # not part of its JSON, so set it here, after loading and unpickling
        )
        ids = core.get_vocab()
        self._core = core
        self._prefix: str = core.model.continuing_subword_prefix
        self._pieces = {index: piece for piece, index in ids.items()}
        self._special = {
            index for index, token in core.get_added_tokens_decoder().items() if token.special
        }
        self.vocab_size = len(ids)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (
            ids["[PAD]"],
            ids["[UNK]"],
            ids["[CLS]"],
            ids["[SEP]"],
        )
        self.dec_id, self.enc_id = ids["[DEC]"], ids["[ENC]"]

    def __reduce__(self) -> tuple[Callable[[str], "Tokenizer"], tuple[str]]:
        return _from_json, (self._core.to_str(),)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read `vocab.txt`, `tokenizer.json`, or a folder holding either (tokenizer.json is preferred).

        [DEC] and [ENC] are put at the end of a vocabulary without them. A tokenizer_config.json beside vocab.txt says whether
        letters are lower-cased and accents stripped (both, if it says nothing). Raises CheckpointError.
        """
        return cls(read_tokenizer(Path(path)))

    @classmethod
    def train(
        cls,
        captions: Iterable[str],
        vocab_size: int,
        lowercase: bool = True,
        strip_accents: bool = False,
    ) -> "Tokenizer":
        """Make a vocabulary of at most `vocab_size` pieces from captions of any language.

        The same captions in any order give the same ids. Add the prompt to the captions if its words shall be pieces, too.
        Raises ConfigError if `vocab_size` leaves no room, DataError if there are no words.
        """
        if vocab_size <= len(SPECIAL):
            raise ConfigError(
                f"vocab_size {vocab_size} leaves no room beside the {len(SPECIAL)} special tokens: give some thousand"
            )
        bert = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        normalizer = normalizers.Sequence(
            [bert, normalizers.NFC()]
        )  # "é" is one letter, whether typed as one or as two
        words = count_words(captions, normalizer, pre_tokenizers.BertPreTokenizer())
        if not words:
            raise DataError(
                "no caption holds a word to make a vocabulary from: check the captions of the training data"
            )
        pieces = [
            *(token for token in SPECIAL if token not in BLIP),
            *learn_pieces(words, vocab_size - len(SPECIAL)),
        ]
        longest = max(100, *map(len, words))  # 100 is BERT's
        return cls(
            assemble(
                pieces,
                normalizer,
                pre_tokenizers.BertPreTokenizer(),
                max_input_chars_per_word=longest,
            )
        )

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json, whole or not at all; `load` gives the same tokenizer back."""
        write_text(path, self._core.to_str(pretty=True))

    def encode(self, caption: str, prompt: str = "", max_tokens: int = 40) -> tuple[list[int], int]:
        """`[DEC] prompt caption [SEP]` and the prompt length: 1 + the pieces of the prompt.

        At most `max_tokens` (2 or more) ids, [SEP] always among them; the prompt length is not cut. Prompt and caption are
        tokenised separately, which equals the reference's tokenising them together whenever the prompt ends in white space.
        """
        return self._finish(self.encode_prompt(prompt), self._ids(caption), max_tokens)

    def encode_pairs(
        self, captions: Sequence[str], prompts: Sequence[str], max_tokens: int = 40
    ) -> list[tuple[list[int], int]]:
        """`encode` of every caption with its prompt, in parallel."""
        starts = {prompt: self.encode_prompt(prompt) for prompt in set(prompts)}
        encodings = self._core.encode_batch_fast(
            [without_surrogates(caption) for caption in captions], add_special_tokens=False
        )
        return [
            self._finish(starts[prompt], each.ids, max_tokens)
            for prompt, each in zip(prompts, encodings, strict=True)
        ]

    def encode_prompt(self, prompt: str) -> list[int]:
        """`[DEC] prompt`, what generation starts from."""
        return [self.dec_id, *self._ids(prompt)]

    def encode_text(self, text: str, max_tokens: int = 35) -> list[int]:
        """`[CLS] text [SEP]`, what the matcher reads; at most `max_tokens` (2 or more) ids, [SEP] always among them."""
        return [*[self.cls_id, *self._ids(text)][: max_tokens - 1], self.sep_id]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without special tokens, spaced as the reference's tokenizer spaces it.

        Chinese and Japanese come without spaces. Raises KeyError for an id outside the vocabulary.
        """
        return join_pieces(
            [self._pieces[index] for index in ids if index not in self._special], self._prefix
        )

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id, special tokens and `##` included. Raises KeyError for an id outside the vocabulary."""
        return [self._pieces[index] for index in ids]

    def _ids(self, text: str) -> list[int]:
        return self._core.encode(without_surrogates(text), add_special_tokens=False).ids

    def _finish(
        self, start: list[int], caption: list[int], max_tokens: int
    ) -> tuple[list[int], int]:
        return [*[*start, *caption][: max_tokens - 1], self.sep_id], len(start)


def _from_json(text: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text))
