"""The HTML report of an evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_captioner import CAPTIONS, REFERENCES, fake_captioner, make_samples
from PIL import Image

from cutline.data import Sample
from cutline.evaluation import (
    evaluate,
    evaluation_report,
    make_domain_table,
    write_evaluation_report,
)
from cutline.report import Card


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    samples = make_samples(*REFERENCES, domains=("out-domain",) * 4)
    for sample in samples:
        Image.new("RGB", (8, 8)).save(tmp_path / str(sample.image))
    return [replace(sample, image=str(tmp_path / str(sample.image))) for sample in samples]


def test_report_shows_best_and_worst_captions(samples: list[Sample], tmp_path: Path) -> None:
    write_evaluation_report(tmp_path / "report.html", evaluate(fake_captioner(*CAPTIONS), samples))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image") == 4
    assert page.index("Best captions") < page.index("Worst captions")
    assert "cider" in page


def test_report_shows_all_results(samples: list[Sample], tmp_path: Path) -> None:
    evaluation = evaluate(
        fake_captioner(*CAPTIONS), samples, resamples=20, train_captions=CAPTIONS[:1]
    )
    evaluation.skipped.append("gone.png: no such file")
    write_evaluation_report(tmp_path / "report.html", evaluation)
    page = (tmp_path / "report.html").read_text()
    low, high = evaluation.intervals["cider"]
    for text in ("By domain", "out-domain", "distinct2", "novel", "gone.png: no such file"):
        assert text in page
    assert f"[{low:.4g}, {high:.4g}]" in page


def test_domain_table_has_a_column_per_domain_and_one_of_all() -> None:
    samples = make_samples(*REFERENCES, domains=("near", "near", "out", ""))
    evaluation = evaluate(fake_captioner(*CAPTIONS), samples)
    rows, header = make_domain_table(evaluation)
    assert header == ["", "near", "out", "all"]
    assert [row[0] for row in rows] == list(evaluation.scores.to_dict())
    assert rows[-1] == ["num_pictures", 2, 1, 4]


def test_report_contains_small_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (900, 1200)).save(tmp_path / "1.png")
    sample = Sample(str(tmp_path / "1.png"), ("a dog",), "1")
    sizes: list[tuple[int, int]] = []

    def record_sizes(cards: list[Card]) -> str:
        sizes.extend(card.image.size for card in cards if isinstance(card.image, Image.Image))
        return ""

    monkeypatch.setattr(evaluation_report, "render_gallery", record_sizes)
    evaluation = evaluate(fake_captioner("a dog"), [sample])
    write_evaluation_report(tmp_path / "report.html", evaluation)
    assert sizes == [(288, 384), (288, 384)]
