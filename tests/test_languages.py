"""Captions in other languages: vocabulary, cleaning, and training a captioner."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cutline
from cutline.config import (
    DataConfig,
    EvalConfig,
    GenerationConfig,
    InitConfig,
    MemoryConfig,
    MetricTokenizer,
    ModelSettings,
    OptimConfig,
    Recipe,
    TextSettings,
    VisionSettings,
)
from cutline.data import Sample
from cutline.demo.drawing import draw_scene
from cutline.demo.scenes import make_scenes
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


def clean_captions(captions: list[str]) -> list[str]:
    return [clean_caption(caption, "blip", 30) for caption in captions]


@pytest.fixture(scope="module")
def vietnamese(shared: Path) -> list[str]:
    """Return 2500 captions written by people."""
    path = shared / "data" / "vi-captions" / "train.jsonl"
    if not path.is_file():
        pytest.skip(f"no Vietnamese captions at {path}")
    return [
        caption
        for line in path.read_text(encoding="utf-8").splitlines()
        for caption in json.loads(line)["captions"]
    ]


# -------------------------------------------------------------------------- vocabulary and cleaning


@pytest.mark.parametrize(
    "captions",
    [GERMAN, CHINESE, JAPANESE, THAI, TURKISH],
    ids=["german", "chinese", "japanese", "thai", "turkish"],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_cleaned_captions_are_decoded_unchanged(captions: list[str], form: str) -> None:
    """No token is unknown, no accent is lost, and letters of two code points become one."""
    captions = clean_captions(captions)
    tokenizer = Tokenizer.train(captions, 400)
    for caption in captions:
        ids, _ = tokenizer.encode(unicodedata.normalize(form, caption), max_tokens=100)
        assert tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", caption)


def test_vietnamese_captions_keep_every_tone(vietnamese: list[str]) -> None:
    captions = [unicodedata.normalize("NFC", caption) for caption in clean_captions(vietnamese)]
    tokenizer = Tokenizer.train(captions, 2000)
    encoded = [tokenizer.encode(caption)[0] for caption in captions]
    assert not any(tokenizer.unk_id in ids for ids in encoded)
    for caption, ids in zip(captions, encoded, strict=True):
        # Like BLIP's code, `decode` removes the spaces before punctuation.
        assert tokenizer.decode(ids) == caption.replace(" ,", ",").replace(" ?", "?")
    vocabulary = tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))
    assert {"một", "người", "đường", "chó", "cỏ"} < set(vocabulary)


def test_words_that_differ_by_a_tone_have_different_tokens() -> None:
    tones = ["ma", "má", "mà", "mả", "mã", "mạ", "mẫu", "mậu"]
    tokenizer = Tokenizer.train(tones * 2, 100)
    assert len({tuple(tokenizer.encode(tone)[0]) for tone in tones}) == len(tones)
    assert [tokenizer.decode(tokenizer.encode(tone)[0]) for tone in tones] == tones


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Eine große Straße.", "eine große straße"),
        ("STRASSE, ẞ", "strasse, ß"),
        # Only ASCII punctuation is removed, as in BLIP's code.
        ("两个人，一只狗。", "两个人，一只狗。"),
        ("他说：“好”！", "他说：“好”！"),
        ("Một nhóm người .", "một nhóm người"),
        ("İstanbul", "i\u0307stanbul"),  # in Unicode, lower case İ has two code points
    ],
)
def test_captions_are_cleaned(text: str, expected: str) -> None:
    assert clean_caption(text, "blip", 30) == expected


def test_cleaning_removes_no_words_that_metrics_count(vietnamese: list[str]) -> None:
    for caption in [*GERMAN, *TURKISH, *vietnamese[:300]]:
        assert split_words(clean_caption(caption, "blip", 100)) == split_words(caption)
    for caption in [*CHINESE, *JAPANESE, *THAI]:
        assert split_characters(clean_caption(caption, "blip", 100)) == split_characters(caption)


# ----------------------------------------------------------------------------------------- training


@pytest.fixture
def overfit(tmp_path: Path) -> Callable[[list[str]], tuple[cutline.Captioner, list[Sample]]]:
    """Train a tiny captioner on drawn scenes with given captions until it reproduces them."""

    def train_captioner(captions: list[str]) -> tuple[cutline.Captioner, list[Sample]]:
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
            model=ModelSettings(
                vision=VisionSettings(
                    image_size=32, patch_size=16, embed_dim=64, depth=2, num_heads=2
                ),
                text=TextSettings(
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
            init=InitConfig(vocab_size=200),
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
            memory=MemoryConfig(selective_checkpointing=False),  # it only takes time
            eval=EvalConfig(every_epochs=80),
            generation=GenerationConfig(max_length=40, min_length=1),
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        best = train(recipe, show_progress=False)
        torch.set_num_threads(threads)
        return cutline.load(best, "cpu", "fp32"), samples

    return train_captioner


@pytest.mark.parametrize(
    ("captions", "metric_tokenizer"),
    [(GERMAN, "words"), (CHINESE, "auto")],
    ids=["german", "chinese"],
)
def test_a_captioner_learns_the_language(
    overfit: Callable[..., tuple[cutline.Captioner, list[Sample]]],
    captions: list[str],
    metric_tokenizer: MetricTokenizer,
) -> None:
    captioner, samples = overfit(captions)
    evaluation = evaluate(
        captioner, samples, metric_tokenizer=metric_tokenizer, max_length=40, min_length=1
    )
    assert [image.caption.text for image in evaluation.images] == clean_captions(captions)
    assert evaluation.scores.bleu4 > 0.99


# ------------------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize("name", ["vietnamese", "german", "chinese"])
def test_recipes_of_languages_are_valid(name: str) -> None:
    recipe = cutline.read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.output == f"runs/{name}"
    assert recipe.data.max_tokens <= recipe.model.text.max_positions
    assert recipe.generation.max_length <= recipe.model.text.max_positions
