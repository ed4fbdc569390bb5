"""Captions in other languages: the vocabulary, the cleaning, and a captioner that learns to write them."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cutline
from cutline.config import (
    CaptionConfig,
    DataConfig,
    EvalConfig,
    GenerationConfig,
    InitConfig,
    MetricTokenizer,
    OptimConfig,
    Recipe,
    TextConfig,
    VisionConfig,
)
from cutline.data import Sample
from cutline.demo.scenes import draw_scene, make_scenes
from cutline.evaluation import evaluate
from cutline.metrics.tokenizers import split_characters, split_words
from cutline.tokenizer import Tokenizer, clean_caption
from cutline.training import train

RECIPES = Path(__file__).parents[1] / "recipes"

GERMAN = [
    "Ein großer grüner Kreis über einem weißen Stern.",
    "Zwei süße Hündchen, müde vom Spaß, schlafen auf der Straße.",
    "Die Straßenbahn fährt durch Köln (rechts: ein Café).",
    "Größe XL: ein Mädchen mit Öljacke!",
]
CHINESE = [
    "一个红色的圆形在蓝色的星星上面。",
    "两个人，一只狗；后面是红色的“汽车”。",
    "桌子上有3个苹果、2杯咖啡！",
    "一辆 bmw 汽车停在路边。",
]
JAPANESE = ["テニスをする2人の女性、白い服。", "「止まれ」と書かれた標識。"]
THAI = ["ผู้ชายสองคนยืนอยู่ริมถนน", "แมวนอนบนโต๊ะ"]
TURKISH = ["İstanbul'da bir köpek, güneşli bir gün.", "Işıklı sokakta iki çocuk."]


def cleaned(captions: list[str]) -> list[str]:
    return [clean_caption(caption, "blip", 30) for caption in captions]


@pytest.fixture(scope="module")
def vietnamese(shared: Path) -> list[str]:
    """Two and a half thousand captions that people wrote."""
    path = shared / "data" / "vi-captions" / "train.jsonl"
    if not path.is_file():
        pytest.skip(f"no Vietnamese captions at {path}")
    return [
        caption
        for line in path.read_text(encoding="utf-8").splitlines()
        for caption in json.loads(line)["captions"]
    ]


# -------------------------------------------------------------------------------------------- vocabulary and cleaning


@pytest.mark.parametrize(
    "captions",
    [GERMAN, CHINESE, JAPANESE, THAI, TURKISH],
    ids=["german", "chinese", "japanese", "thai", "turkish"],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_captions_come_back_as_they_were_cleaned(captions: list[str], form: str) -> None:
    """Nothing is unknown, no accent is lost, and letters typed as two code points come back as one."""
    captions = cleaned(captions)
    tokenizer = Tokenizer.train(captions, 400)
    for caption in captions:
        ids, _ = tokenizer.encode(unicodedata.normalize(form, caption), max_tokens=100)
        assert tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", caption)


def test_vietnamese_captions_come_back_with_every_tone(vietnamese: list[str]) -> None:
    captions = [unicodedata.normalize("NFC", caption) for caption in cleaned(vietnamese)]
    tokenizer = Tokenizer.train(captions, 2000)
    encoded = [tokenizer.encode(caption)[0] for caption in captions]
    assert not any(tokenizer.unk_id in ids for ids in encoded)
    for caption, ids in zip(captions, encoded, strict=True):
        assert tokenizer.decode(ids) == caption.replace(" ,", ",").replace(
            " ?", "?"
        )  # as the reference spaces them
    assert {"một", "người", "đường", "chó", "cỏ"} < set(
        tokenizer.pieces(range(tokenizer.vocab_size))
    )


def test_letters_that_differ_by_a_tone_are_different_words() -> None:
    tones = ["ma", "má", "mà", "mả", "mã", "mạ", "mẫu", "mậu"]
    tokenizer = Tokenizer.train(tones * 2, 100)
    assert len({tuple(tokenizer.encode(tone)[0]) for tone in tones}) == len(tones)
    assert [tokenizer.decode(tokenizer.encode(tone)[0]) for tone in tones] == tones


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Eine große Straße.", "eine große straße"),
        ("STRASSE, ẞ", "strasse, ß"),
        (
            "两个人，一只狗。",
            "两个人，一只狗。",
        ),  # only ASCII punctuation is dropped, as in the reference
        ("他说：“好”！", "他说：“好”！"),
        ("Một nhóm người .", "một nhóm người"),
        ("İstanbul", "i\u0307stanbul"),  # Unicode's small letter of İ is two code points
    ],
)
def test_cleaning(text: str, expected: str) -> None:
    assert clean_caption(text, "blip", 30) == expected


def test_the_words_of_clean_captions_are_those_that_are_measured(vietnamese: list[str]) -> None:
    """Cleaning takes no word from a caption that the metrics count in its reference."""
    for caption in [*GERMAN, *TURKISH, *vietnamese[:300]]:
        assert split_words(clean_caption(caption, "blip", 100)) == split_words(caption)
    for caption in [*CHINESE, *JAPANESE, *THAI]:
        assert split_characters(clean_caption(caption, "blip", 100)) == split_characters(caption)


# ---------------------------------------------------------------------------------------------------- a captioner learns


@pytest.fixture
def learn(tmp_path: Path) -> Callable[[list[str]], tuple[cutline.Captioner, list[Sample]]]:
    """Trains a tiny captioner on drawn scenes with these captions, until it should know them by heart."""

    def build(captions: list[str]) -> tuple[cutline.Captioner, list[Sample]]:
        samples = []
        for number, (caption, scene) in enumerate(
            zip(captions, make_scenes(len(captions), seed=6), strict=True)
        ):
            draw_scene(scene).save(tmp_path / f"{number}.png")
            (tmp_path / f"{number}.txt").write_text(caption, encoding="utf-8")
            samples.append(Sample(str(tmp_path / f"{number}.png"), (caption,), str(number)))
        recipe = Recipe(
            output=str(tmp_path / "run"),
            precision="fp32",
            model=CaptionConfig(
                vision=VisionConfig(
                    image_size=32, patch_size=16, embed_dim=64, depth=2, num_heads=2
                ),
                text=TextConfig(
                    embed_dim=64,
                    depth=2,
                    num_heads=2,
                    mlp_dim=128,
                    max_positions=48,
                    dropout=0.0,
                    attn_dropout=0.0,
                ),
                prompt="",
                label_smoothing=0.0,
            ),
            start=InitConfig(vocab_size=200),
            data=DataConfig(
                train=str(tmp_path),
                val=str(tmp_path),
                crop_scale=(1.0, 1.0),
                flip=False,
                randaugment=False,
                cache=True,
                num_workers=0,
            ),
            optim=OptimConfig(
                batch_size=4, epochs=80, lr=3e-3, warmup_steps=10, clip_norm=1.0, weight_decay=0.0
            ),
            eval=EvalConfig(every=80),
            generation=GenerationConfig(max_length=40, min_length=1),
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        best = train(recipe, show_progress=False)
        torch.set_num_threads(threads)
        return cutline.load(best, "cpu", "fp32"), samples

    return build


@pytest.mark.parametrize(
    ("captions", "tokens"), [(GERMAN, "words"), (CHINESE, "auto")], ids=["german", "chinese"]
)
def test_a_captioner_learns_to_write_it(
    learn: Callable[..., tuple[cutline.Captioner, list[Sample]]],
    captions: list[str],
    tokens: MetricTokenizer,
) -> None:
    captioner, samples = learn(captions)
    found = evaluate(captioner, samples, metric_tokenizer=tokens, max_length=40, min_length=1)
    assert [one.caption.text for one in found.images] == cleaned(captions)
    assert found.scores.bleu4 > 0.99


# --------------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", ["vietnamese", "german", "chinese"])
def test_recipes_are_valid(name: str) -> None:
    recipe = cutline.read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.output == f"runs/{name}"
    assert recipe.data.max_tokens <= recipe.model.text.max_positions
    assert recipe.generation.max_length <= recipe.model.text.max_positions
