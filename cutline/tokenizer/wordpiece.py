"""The tokenizer: captions and prompts to token ids, and token ids to captions."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from cutline.config import GenerationConfig
from cutline.errors import DataError, SettingError
from cutline.files import write_text
from cutline.messages import format_value
from cutline.tokenizer.read import BLIP_TOKENS, SPECIAL_TOKENS, build_tokenizer, read_tokenizer
from cutline.tokenizer.text import (
    join_bert_tokens,
    join_settled_tokens,
    join_tokens,
    remove_surrogates,
)
from cutline.tokenizer.vocabulary import count_normalized_words, learn_vocabulary
from cutline.tokenizer.words import WordSpan, locate_words


class EncodedText(NamedTuple):
    """Token ids of a prompt and a text."""

    token_ids: list[int]
    """[DEC], prompt, text and [SEP]"""
    prompt_length: int
    """number of prompt tokens, [DEC] included, before truncation"""

    @property
    def has_targets(self) -> bool:
        """Return whether a token of the text follows the prompt, not only [SEP]."""
        return len(self.token_ids) > self.prompt_length + 1


class Tokenizer:
    """WordPiece with BLIP's [DEC] (start of a caption) and [ENC] (start of a text to match).

    Special tokens in a text have no meaning: "[SEP]" becomes the tokens "[", "sep", "]".
    """

    vocab_size: int
    """V, number of tokens with [DEC] and [ENC]; every id is below it"""
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    dec_id: int
    enc_id: int

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        """Wrap the result of `build_tokenizer`; use `Tokenizer.load` or `Tokenizer.train`."""
        core.encode_special_tokens = True  # not saved in its JSON, so it must be set each time
        ids = core.get_vocab()
        self._core = core
        self._prefix: str = core.model.continuing_subword_prefix
        self._tokens = {index: token for token, index in ids.items()}
        self._special = {
            index for index, token in core.get_added_tokens_decoder().items() if token.special
        }
        self.vocab_size = len(ids)
        self.pad_id, self.unk_id = ids["[PAD]"], ids["[UNK]"]
        self.cls_id, self.sep_id = ids["[CLS]"], ids["[SEP]"]
        self.dec_id, self.enc_id = ids["[DEC]"], ids["[ENC]"]

    def __reduce__(self) -> tuple[Callable[[str], "Tokenizer"], tuple[str]]:
        return _from_json, (self._core.to_str(),)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Load a `vocab.txt`, a `tokenizer.json`, or a folder that contains either.

        In a folder, tokenizer.json takes precedence. [DEC] and [ENC] are appended to a vocabulary
        without them. A tokenizer_config.json beside vocab.txt determines whether letters are
        lowercased and accents stripped; the default is both.

        Raises:
            CheckpointError: There is no such file, or it is not a BERT vocabulary.
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
        """Learn a vocabulary from captions of any language.

        The order of the captions has no effect on the ids. To get tokens for the words of the
        prompt, include it in the captions.

        Args:
            captions: Captions in any order.
            vocab_size: Maximum number of tokens, special tokens included.
            lowercase: Whether to lowercase text.
            strip_accents: Whether to strip accents from text.

        Raises:
            ConfigError: `vocab_size` is too small for the special tokens.
            DataError: The captions contain no words.
        """
        if vocab_size <= len(SPECIAL_TOKENS):
            problem = f"{vocab_size} is too small for the {len(SPECIAL_TOKENS)} special tokens"
            raise SettingError(None, "vocab_size", f"{problem}: use a few thousand")
        bert = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        # NFC: a letter with an accent may be typed as one character or as two
        normalizer = normalizers.Sequence([bert, normalizers.NFC()])
        pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        words = count_normalized_words(captions, normalizer, pre_tokenizer)
        if not words:
            raise DataError(
                "no caption contains a word to learn a vocabulary from: "
                "check the captions of the training data"
            )
        tokens = [token for token in SPECIAL_TOKENS if token not in BLIP_TOKENS]
        tokens += learn_vocabulary(words, vocab_size - len(SPECIAL_TOKENS))
        longest = max(100, *map(len, words))  # 100 is BERT's limit
        return cls(
            build_tokenizer(tokens, normalizer, pre_tokenizer, max_input_chars_per_word=longest)
        )

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json atomically; `load` reads the same tokenizer."""
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """Return the content of a tokenizer.json."""
        return self._core.to_str(pretty=True)

    def encode(self, caption: str, prompt: str = "", max_tokens: int = 40) -> EncodedText:
        """Encode `[DEC] prompt caption [SEP]`.

        Prompt and caption are tokenized separately. The result equals tokenizing both at once, as
        BLIP's code does, if the prompt ends with whitespace.

        Args:
            caption: The caption.
            prompt: The prompt.
            max_tokens: Maximum number of ids, at least 2; [SEP] is always included.
        """
        return self._assemble(self.encode_prompt(prompt), self._encode(caption), max_tokens)

    def encode_batch(
        self, captions: Sequence[str], prompts: Sequence[str], max_tokens: int = 40
    ) -> list[EncodedText]:
        """Encode each caption with its prompt as `encode` does, in parallel."""
        prompt_ids = {prompt: self.encode_prompt(prompt) for prompt in set(prompts)}
        encodings = self._core.encode_batch_fast(
            [remove_surrogates(caption) for caption in captions], add_special_tokens=False
        )
        return [
            self._assemble(prompt_ids[prompt], encoding.ids, max_tokens)
            for prompt, encoding in zip(prompts, encodings, strict=True)
        ]

    def encode_prompt(self, prompt: str) -> list[int]:
        """Encode `[DEC] prompt`, from which generation starts."""
        return [self.dec_id, *self._encode(prompt)]

    def encode_bad_words(self, words: Sequence[str]) -> list[list[int]]:
        """Encode words or phrases that are not to be generated.

        Raises:
            SettingError: One has no tokens, or unknown ones, so that no caption can contain it.
        """
        encoded = [self._encode(word) for word in words]
        for word, token_ids in zip(words, encoded, strict=True):
            if not token_ids or self.unk_id in token_ids:
                problem = "is not in the model's vocabulary, so it is never generated: remove it"
                raise SettingError(GenerationConfig, "bad_words", f"{format_value(word)} {problem}")
        return encoded

    def encode_text(self, text: str, max_tokens: int = 35) -> list[int]:
        """Encode `[CLS] text [SEP]` for the matcher.

        Args:
            text: The text.
            max_tokens: Maximum number of ids, at least 2; [SEP] is always included.
        """
        return self._assemble([self.cls_id], self._encode(text), max_tokens).token_ids

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text without special tokens, spaced as in BLIP's code.

        Chinese and Japanese are written without spaces.

        Raises:
            KeyError: An id is outside the vocabulary.
        """
        return join_tokens(self._words(ids), self._prefix)

    def decode_words(self, ids: Sequence[int]) -> tuple[str, list[WordSpan]]:
        """Return `decode(ids)`, and where its words are, each with the positions of its ids.

        Raises:
            KeyError: An id is outside the vocabulary.
        """
        positions = [number for number, index in enumerate(ids) if index not in self._special]
        tokens = [self._tokens[ids[position]] for position in positions]
        text = join_tokens(tokens, self._prefix)
        spans = [
            WordSpan(start, end, tuple(positions[token] for token in pieces))
            for start, end, pieces in locate_words(text, tokens, self._prefix)
        ]
        return text, spans

    def split_words(self, text: str) -> list[str]:
        """Return the words of a text, normalized and split as those of a decoded caption are."""
        decoded, spans = self.decode_words(self._encode(text))
        return [decoded[word.start : word.end] for word in spans]

    def decode_as_bert(self, ids: Iterable[int]) -> str:
        """Decode ids to text as `BertTokenizer` in transformers does.

        Unlike in `decode`, Chinese and Japanese have spaces, and a first token keeps its `##`.

        Raises:
            KeyError: An id is outside the vocabulary.
        """
        return join_bert_tokens(self._words(ids), self._prefix)

    def decode_settled(self, ids: Iterable[int]) -> str:
        """Decode the first ids of a text to the longest text that no further id changes.

        It is a prefix of what `decode` returns for these ids and any further ones.

        Raises:
            KeyError: An id is outside the vocabulary.
        """
        return join_settled_tokens(self._words(ids), self._prefix)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the token of each id, with special tokens and prefixes `##`.

        Raises:
            KeyError: An id is outside the vocabulary.
        """
        return [self._tokens[index] for index in ids]

    def _words(self, ids: Iterable[int]) -> list[str]:
        return [self._tokens[index] for index in ids if index not in self._special]

    def _encode(self, text: str) -> list[int]:
        return self._core.encode(remove_surrogates(text), add_special_tokens=False).ids

    def _assemble(self, prefix: list[int], text: list[int], max_tokens: int) -> EncodedText:
        token_ids = [*[*prefix, *text][: max_tokens - 1], self.sep_id]
        return EncodedText(token_ids, len(prefix))


def _from_json(text: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text))
