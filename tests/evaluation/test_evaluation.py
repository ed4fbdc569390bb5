"""Captioning a dataset and measuring the captions."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fake_captioner import CAPTIONS, REFERENCES, fake_captioner, make_samples
from random_captioner import make_captioner

import cutline
from cutline.captioner import Captioner
from cutline.config import DataSource
from cutline.data import Sample
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.evaluation import evaluate, evaluation, measurement
from cutline.metrics import bootstrap_intervals, collect_stats, compute_metrics, java
from cutline.metrics.tokenizers import split_characters


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(6, seed=5))


def test_generated_captions_are_measured(captioner: Captioner, data: Path) -> None:
    result = evaluate(captioner, data, num_beams=2)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    captions = captioner.caption([data.parent / row["file_name"] for row in rows], num_beams=2)
    evaluated = [image.caption for image in result.images]
    assert [c.token_ids for c in evaluated] == [c.token_ids for c in captions]
    assert [c.score for c in evaluated] == pytest.approx([c.score for c in captions], rel=1e-5)
    references = [row["captions"] for row in rows]
    assert result.scores == compute_metrics([c.text for c in captions], references)[0]
    assert result.skipped == []
    assert (result.domains, result.intervals, result.diversity.novel) == ({}, {}, None)


def test_data_source_is_read(captioner: Captioner, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_text(data.read_text())
    expected = evaluate(captioner, data).scores
    assert evaluate(captioner, DataSource(str(copy), str(data.parent))).scores == expected
    assert evaluate(captioner, copy, image_root=str(data.parent)).scores == expected


def test_unreadable_images_are_reported_and_not_measured(captioner: Captioner, data: Path) -> None:
    samples = [
        Sample(str(data.parent / "scene-000000.png"), ("a star",), "0"),
        Sample("/gone.png", ("a star",), "1"),
    ]
    result = evaluate(captioner, samples)
    assert len(result.images) == 1
    assert "/gone.png" in result.skipped[0]
    with pytest.raises(cutline.DataError, match="none of the 1 images can be captioned"):
        evaluate(captioner, samples[1:])
    with pytest.raises(cutline.DataError, match="no image has a reference caption"):
        evaluate(captioner, [Sample("/gone.png", (), "1")])


def test_prompt_of_an_image_precedes_the_model_s_and_yields_to_the_argument(
    captioner: Captioner, data: Path
) -> None:
    path = str(data.parent / "scene-000001.png")
    sample = Sample(path, ("a star",), "0", prompt="the left ")
    for argument, prompt in ((None, "the left "), ("", "")):
        [image] = evaluate(captioner, [sample], argument).images
        assert image.caption.token_ids == captioner.caption(path, prompt)[0].token_ids


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": "words"}, "the argument `tokens` is now `metric_tokenizer`"),
        ({"learned": ["a dog"]}, "the argument `learned` is now `train_captions`"),
        ({"bootstrap": 10}, "the argument `bootstrap` is now `resamples`"),
        ({"workers": 1}, "the argument `workers` is now `num_workers`"),
        ({"beams": 3}, "unknown argument `beams`"),
    ],
)
def test_unknown_and_renamed_keywords_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(cutline.ConfigError, match=message):
        evaluate(fake_captioner("a dog"), make_samples(("a dog",)), **settings)


def test_domain_is_measured_as_a_corpus_of_its_own() -> None:
    domains = ("near-domain", "out-domain", "near-domain", "out-domain")
    result = evaluate(fake_captioner(*CAPTIONS), make_samples(*REFERENCES, domains=domains))
    assert list(result.domains) == ["near-domain", "out-domain"]
    for name, scores in result.domains.items():
        indices = [index for index, domain in enumerate(domains) if domain == name]
        expected, _ = compute_metrics(
            [CAPTIONS[index] for index in indices], [REFERENCES[index] for index in indices]
        )
        assert asdict(scores) == pytest.approx(asdict(expected))
    assert result.scores == compute_metrics(CAPTIONS, REFERENCES)[0]
    mean = (result.images[0].scores.cider + result.images[2].scores.cider) / 2
    assert result.domains["near-domain"].cider != pytest.approx(mean)


def test_images_without_a_domain_count_in_the_total_only() -> None:
    samples = make_samples(*REFERENCES, domains=("", "in-domain", "", ""))
    result = evaluate(fake_captioner(*CAPTIONS), samples)
    assert {name: scores.num_images for name, scores in result.domains.items()} == {"in-domain": 1}
    assert result.scores.num_images == 4


def test_intervals_are_those_of_the_bootstrap() -> None:
    result = evaluate(fake_captioner(*CAPTIONS), make_samples(*REFERENCES), resamples=50)
    assert result.intervals == bootstrap_intervals(collect_stats(CAPTIONS, REFERENCES), 50)


def test_training_captions_are_not_novel() -> None:
    result = evaluate(
        fake_captioner(*CAPTIONS),
        make_samples(*REFERENCES),
        train_captions=["Two cats.", "a bird"],
    )
    assert result.diversity.novel == 3 / 4
    assert result.diversity.unique == 1
    assert result.diversity.mean_length == 14 / 4


def test_captions_in_scripts_without_spaces_are_measured_by_characters() -> None:
    captions, references = ("一只狗在跑", "两个人"), (("一只狗在草地上跑。",), ("两个女人站着",))
    captioner, samples = fake_captioner(*captions), make_samples(*references)
    expected = compute_metrics(captions, references, split_characters)[0]
    assert evaluate(captioner, samples).scores == expected
    assert evaluate(captioner, samples, metric_tokenizer="characters").scores == expected
    ptb_scores = evaluate(captioner, samples, metric_tokenizer="ptb").scores
    assert ptb_scores == compute_metrics(captions, references)[0] != expected
    assert evaluate(captioner, samples).diversity.vocabulary == 8


def test_empty_references_and_captions() -> None:
    captioner = fake_captioner("a dog", "", "two cats")
    result = evaluate(captioner, make_samples(("a dog",), ("a man", ""), ("",)))
    assert [image.scores.num_images for image in result.images] == [1, 1, 1]
    assert result.images[0].scores.rouge_l == pytest.approx(1)
    assert result.images[2].scores.rouge_l == 0


def test_words_of_every_image_have_no_weight_in_cider() -> None:
    [image] = evaluate(fake_captioner("a dog"), make_samples(("a dog",))).images
    assert (image.scores.bleu1, image.scores.cider) == (pytest.approx(1), 0)


def test_missing_metrics_and_bad_settings_are_reported_before_captioning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    captioner, samples = fake_captioner(), make_samples(("a dog",))
    with pytest.raises(cutline.ConfigError, match="pip install"):
        evaluate(captioner, samples, metrics=["meteor"])
    with pytest.raises(cutline.ConfigError, match="resamples must be at least 0, not -1"):
        evaluate(captioner, samples, resamples=-1)


def test_results_can_be_stored_as_json() -> None:
    samples = make_samples(*REFERENCES, domains=("out-domain",) * 4)
    result = evaluate(fake_captioner(*CAPTIONS), samples, resamples=20, train_captions=CAPTIONS[:1])
    values = json.loads(json.dumps(result.to_dict()))
    keys = ["scores", "diversity", "domains", "groups", "intervals", "word_usage"]
    assert list(values) == [*keys, "skipped", "left_out"]
    assert values["scores"] == result.scores.to_dict()
    assert values["domains"]["out-domain"] == result.scores.to_dict()
    assert values["diversity"]["novel"] == 3 / 4
    assert values["intervals"]["bleu4"] == list(result.intervals["bleu4"])


def test_progress_is_shown() -> None:
    calls: list[tuple[int, str]] = []

    def progress(items: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        calls.append((total, description))
        yield from items

    evaluate(fake_captioner(*CAPTIONS), make_samples(*REFERENCES), progress=progress)
    assert calls == [(4, "captioning")]


def test_main_process_measures_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of the first process is replayed to a second, which measures nothing."""
    results: list[object] = []

    def record(work: Callable[[], object]) -> object:
        results.append(work())
        return results[-1]

    captioner, samples = fake_captioner(*CAPTIONS), make_samples(*REFERENCES)
    monkeypatch.setattr(evaluation, "run_on_main", record)
    first = evaluate(captioner, samples, resamples=5)
    monkeypatch.setattr(evaluation, "run_on_main", lambda work: results[0])
    monkeypatch.setattr(measurement, "collect_stats", None)
    assert evaluate(captioner, samples, resamples=5) == first
