"""Calibration of a captioner on a dataset with references."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from random_captioner import make_captioner, save_captioner, write_images

import cutline
from cutline.calibration import JudgedCaption, calibrate
from cutline.calibration.halves import divide_samples
from cutline.calibration.run import fit_calibration
from cutline.captioner import Captioner
from cutline.cli.main import run_command
from cutline.confidence import Calibration, Word, read_calibration
from cutline.config import DataConfig
from cutline.data import Sample
from cutline.demo.drawing import draw_scene
from cutline.demo.scenes import make_scenes
from cutline.errors import DataError
from cutline.metrics import PlattScaling

FAST: dict[str, Any] = {"num_beams": 1, "max_length": 12}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Return images, half of whose references have the words of their captions."""
    paths = write_images(tmp_path_factory.mktemp("scenes"), 24)
    captions = make_captioner().caption([str(path) for path in paths], **FAST)
    texts = ["" if number % 2 else each.text for number, each in enumerate(captions)]
    return [
        Sample(str(path), (f"{text} zebra",), path.name)
        for path, text in zip(paths, texts, strict=True)
    ]


@pytest.fixture(scope="module")
def data(samples: list[Sample]) -> Path:
    """Return the data file of the samples whose captions have words."""
    path = Path(str(samples[0].image)).with_name("references.jsonl")
    captions = make_captioner().caption([str(each.image) for each in samples], **FAST)
    rows = [
        {"image": Path(str(each.image)).name, "captions": each.captions, "id": each.id}
        for each, caption in zip(samples, captions, strict=True)
        if caption.words
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_is_fitted_and_measured(captioner: Captioner, samples: list[Sample]) -> None:
    captioner.calibration = Calibration(word=PlattScaling(0, 9))  # is not used
    try:
        result = calibrate(captioner, samples, batch_size=3, **FAST)
    finally:
        captioner.calibration = None
    halves = divide_samples(samples, DataConfig(train="data"), 0)
    assert len(halves[0]) == len(halves[1]) == 12
    captions = captioner.caption([str(each.image) for each in samples], **FAST)
    by_id = {each.id: caption for each, caption in zip(samples, captions, strict=True)}
    has_words = [[each.id for each in half if by_id[each.id].words] for half in halves]
    assert [each.sample.id for each in result.tested] == has_words[1]
    assert result.calibration.num_images == len(has_words[0])
    assert result.skipped == [
        f"{each.name}: the caption has no words"
        for half in halves
        for each in half
        if not by_id[each.id].words
    ]
    for judged in result.tested:
        caption, texts = by_id[judged.sample.id], judged.sample.captions
        assert judged.caption.text == caption.text
        assert judged.caption.confidence == pytest.approx(caption.confidence, rel=1e-3)
        known = set(captioner.tokenizer.split_words(texts[0]))
        assert judged.is_right == tuple(word.text in known for word in caption.words)
    shares = [each.right for each in result.tested]
    assert 0 < sum(shares) < len(shares)
    assert result.captions.right == pytest.approx(sum(shares) / len(shares))
    assert result.words.count == sum(len(each.is_right) for each in result.tested)
    fitted = [JudgedCaption(each.sample, each.caption, each.is_right) for each in result.tested]
    again = fit_calibration(fitted, result.tested)
    assert again.words.error_after < again.words.error_before
    assert again.captions.right == result.captions.right
    json.dumps(result.to_dict(), allow_nan=False)


def test_words_are_judged_by_a_function(captioner: Captioner, samples: list[Sample]) -> None:
    """Which needs no references."""

    def judge(sample: Sample, caption: cutline.Caption) -> Sequence[bool]:
        return [len(word.text) < 6 for word in caption.words]

    plain = [Sample(each.image, (), each.id) for each in samples]
    result = calibrate(captioner, plain, judge_words=judge, **FAST)
    for judged in result.tested:
        assert judged.is_right == tuple(judge(judged.sample, judged.caption))


def test_confidence_of_a_known_model_is_calibrated() -> None:
    """Words of confidence p that are right with probability p ** 2."""
    captions = []
    for number in range(800):
        confidences = [((number * 7 + i * 31) % 100 + 0.5) / 100 for i in range(10)]
        words = tuple(Word("a", 0, 1, each) for each in confidences)
        caption = cutline.Caption("a", 0.0, (), words=words, confidence=sum(confidences) / 10)
        is_right = tuple((number * 37 % 101) / 101 < each**2 for each in confidences)
        captions.append(JudgedCaption(Sample(b"", (), str(number)), caption, is_right))
    result = fit_calibration(captions[::2], captions[1::2], "f" * 16, 5)
    assert result.words.error_after < 0.03 < result.words.error_before
    assert result.words.auroc is not None
    assert result.words.auroc > 0.8
    assert (result.calibration.fingerprint, result.calibration.seed) == ("f" * 16, 5)
    assert result.calibration.num_words == 4000
    shares = [point.right for point in result.words.coverage]
    assert shares[-1] > 0.9 > 0.4 > shares[0]


def test_groups_and_near_copies_stay_together(tmp_path: Path) -> None:
    samples = []
    for number, scene in enumerate(make_scenes(20, seed=2)):
        image = draw_scene(scene, 128)
        for copy in range(2):
            path = tmp_path / f"video-{number // 4}-{number}-{copy}.jpg"
            image.resize((128 - 8 * copy, 128 - 8 * copy)).save(path, quality=95)
            samples.append(Sample(str(path), ("a",), path.name))
    for pattern, size in (("", 2), (r"video-(\d+)-", 8)):
        data = DataConfig(train="data", group_pattern=pattern)
        fitted, tested = divide_samples(samples, data, 0)
        assert {each.id for each in fitted} | {each.id for each in tested} == {
            each.id for each in samples
        }
        names = [{each.id.split("-")[2] for each in half} for half in (fitted, tested)]
        assert not names[0] & names[1]
        if size == 8:
            videos = [{each.id.split("-")[1] for each in half} for half in (fitted, tested)]
            assert not videos[0] & videos[1]
    other = divide_samples(samples, DataConfig(train="data"), 1)
    assert [each.id for each in other[0]] != [
        each.id for each in divide_samples(samples, DataConfig(train="data"), 0)[0]
    ]


def test_data_that_cannot_be_divided_is_refused(
    captioner: Captioner, samples: list[Sample]
) -> None:
    with pytest.raises(DataError, match="one half has to test"):
        calibrate(captioner, samples[:1], **FAST)
    with pytest.raises(DataError, match="no image has a reference caption"):
        calibrate(captioner, [Sample(each.image, (), each.id) for each in samples], **FAST)
    missing = [Sample(f"{name}.png", ("a dog",), name) for name in "abcd"]
    with pytest.raises(DataError, match="0 captions to fit a calibration on and 0 to test it"):
        calibrate(captioner, missing, **FAST)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_captioner(tmp_path / "model")
    return tmp_path / "model"


FLAGS = ("--num-beams", "1", "--max-length", "12", "--precision", "fp32")


def test_the_command_writes_into_the_folder_of_the_model(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, report = tmp_path / "figures.json", tmp_path / "report.html"
    outputs = ("--json", str(figures), "--report", str(report))
    assert run_command(["calibrate", str(data), "-m", str(model), *FLAGS, *outputs]) == 0
    printed = capsys.readouterr()
    file = model / "calibration.json"
    assert f"{file}: written" in printed.err
    lines = printed.out.splitlines()
    assert lines[0].startswith("fitted on ")
    assert sum(line.split()[:1] in (["100%"], ["10%"]) for line in lines) == 2
    calibration = read_calibration(file)
    values = json.loads(figures.read_text())
    assert values["words"] == calibration.test["words"]
    assert values["fitted_on"]["num_images"] == calibration.num_images > 5
    loaded = cutline.load(model, "cpu", "fp32")
    assert loaded.calibration == calibration
    assert cutline.load(model, "cpu", "int8").calibration == calibration
    page = report.read_text()
    assert page.count("Reliability of") >= 2
    assert f"<h1>Calibration of {model} on {data}</h1>" in page
    assert page.count("data:image/") == values["captions"]["count"]
    for content in (file.read_text(), "{}", '{"format": "cutline-calibration"}'):
        file.write_text(content)  # whatever calibration is there
        assert run_command(["calibrate", str(data), "-m", str(model), *FLAGS]) == 0
        assert "confidence is not calibrated" not in capsys.readouterr().err
        assert read_calibration(file) == calibration
    same = str(figures)
    assert run_command(["calibrate", str(data), "-m", str(model), "-o", same, "--json", same]) == 2
    assert f"{figures}: named for two outputs" in capsys.readouterr().err


def test_a_file_must_be_named_for_other_models(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pth = tmp_path / "model.pth"
    assert run_command(["convert", str(model), str(pth), "--to", "salesforce"]) == 0
    capsys.readouterr()
    assert run_command(["calibrate", str(data), "-m", str(tmp_path / "typo"), *FLAGS]) == 1
    assert "typo: no such file or folder" in capsys.readouterr().err
    for name in (str(pth), "someone/some-model"):
        assert run_command(["calibrate", str(data), "-m", name, *FLAGS]) == 2
        message = capsys.readouterr().err
        assert f"{name}: not a folder on this machine" in message
        assert "-o calibration.json" in message
    out = tmp_path / "calibration.json"
    assert run_command(["calibrate", str(data), "-m", str(pth), *FLAGS, "-o", str(out)]) == 0
    assert cutline.load(pth, calibration=out).calibration == read_calibration(out)
    assert not (tmp_path / "model" / "calibration.json").exists()
    given = ("--calibration", str(out))
    command = ["caption", str(data), "-m", str(model), *given]
    assert run_command(command) == 0
    assert run_command([*command, "--image-size", "48"]) == 1
    assert "the calibration of another model" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_listed(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "data"
    broken.mkdir()
    for number, scene in enumerate(make_scenes(6, seed=9)):
        draw_scene(scene).save(broken / f"{number}.png")
        (broken / f"{number}.txt").write_text("a red circle")
    (broken / "3.png").write_bytes(b"no image")
    assert run_command(["calibrate", str(broken), "-m", str(model), *FLAGS]) == 3
    assert "3.png" in capsys.readouterr().err
    assert (model / "calibration.json").exists()


def test_groups_are_named_by_column_or_pattern(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()][:20]
    rows = [
        {**row, "image": str(data.parent / row["image"]), "scene": str(number // 8)}
        for number, row in enumerate(rows)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["calibrate", str(data), "-m", str(model), *FLAGS]
    figures = tmp_path / "figures.json"
    by_column = [*command, "--group-column", "scene", "--json", str(figures)]
    assert run_command(by_column) == 0
    assert json.loads(figures.read_text())["fitted_on"]["num_images"] in (8, 12)
    capsys.readouterr()
    for words, message in (
        (["--group-column", "place"], "has no column `place`"),
        (["--group-pattern", "zzz"], "data.jsonl: `--group-pattern` 'zzz' matches no image"),
        (["--group-column", "scene", "--group-pattern", "z"], "--group-column are both given"),
    ):
        assert run_command([*command, *words]) > 0
        assert message in capsys.readouterr().err
