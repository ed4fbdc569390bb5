"""HEIC images, through pillow-heif."""

import ctypes
import io
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from forked import run_code
from PIL import ExifTags, Image

from cutline.bulk.shard_groups import find_image_extension
from cutline.data import walk
from cutline.errors import ImageError
from cutline.image import open_image
from cutline.image.heif import is_heif
from cutline.image.heif_items import measure_heif_items

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


def encode_heic(image: Image.Image, **options: object) -> bytes:
    """Encode an image; an orientation in its `info` becomes HEIF's rotation."""
    file = io.BytesIO()
    encoded = pillow_heif.from_bytes(image.mode, image.size, image.tobytes())
    encoded.info.update(image.info)
    encoded.save(file, **options)
    return file.getvalue()


def draw(width: int = 96, height: int = 64) -> Image.Image:
    """Draw an image with a color in each corner."""
    image = Image.new("RGB", (2, 2))
    image.putdata([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
    return image.resize((width, height), Image.Resampling.NEAREST)


def rotated_exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif.tobytes()


def difference(image: Image.Image, expected: Image.Image) -> float:
    assert image.mode == "RGB"
    assert image.size == expected.size
    return float(np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean())


def resize_boxes(data: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """Let a file declare another size of its images."""
    box = b"ispe" + bytes(4)
    changed = data.replace(box + struct.pack(">II", *old), box + struct.pack(">II", *new))
    assert changed != data
    return changed


def open_error(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)


@pytest.fixture(scope="module")
def heic() -> bytes:
    return encode_heic(draw())


def test_opens_files_and_bytes(heic: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.HEIC"
    path.write_bytes(heic)
    for source in (heic, path, str(path)):
        assert difference(open_image(source), draw()) < 8
    (tmp_path / "misnamed.jpg").write_bytes(heic)
    assert difference(open_image(tmp_path / "misnamed.jpg"), draw()) < 8


def test_transparency_is_composited_on_white() -> None:
    image = draw().convert("RGBA")
    image.putalpha(0)
    opened = open_image(encode_heic(image))
    assert difference(opened, Image.new("RGB", image.size, "white")) < 2


@pytest.mark.parametrize("info", [{"exif": rotated_exif()}, {"xmp": XMP}], ids=["exif", "xmp"])
def test_a_rotated_image_is_rotated_once(info: dict[str, bytes]) -> None:
    image = draw()
    image.info |= info
    data = encode_heic(image)
    assert b"irot" in data
    upright = draw().transpose(Image.Transpose.ROTATE_270)
    assert difference(open_image(data), upright) < 8


def test_only_the_rotation_of_heif_counts() -> None:
    image = draw()
    image.info["exif"] = rotated_exif()
    data = encode_heic(image)
    place = data.index(b"irot") + 4
    data = data[:place] + b"\0" + data[place + 1 :]
    assert difference(open_image(data), draw()) < 8


def test_an_image_that_was_opened_elsewhere_is_rotated_once() -> None:
    image = draw()
    image.info["exif"] = rotated_exif()
    opened = pillow_heif.HeifImageFile(io.BytesIO(encode_heic(image)))
    upright = draw().transpose(Image.Transpose.ROTATE_270)
    assert difference(open_image(opened), upright) < 8


def test_grids_and_several_images_are_opened() -> None:
    assert difference(open_image(encode_heic(draw(300, 200), tile_size=128)), draw(300, 200)) < 8
    images = pillow_heif.from_pillow(draw())
    images.add_from_pillow(Image.new("RGB", (32, 32)))
    file = io.BytesIO()
    images.save(file, primary_index=0)
    assert difference(open_image(file.getvalue()), draw()) < 8


def test_avif_stays_with_pillow() -> None:
    file = io.BytesIO()
    draw().save(file, "AVIF")
    data = file.getvalue()
    assert not is_heif(data)
    assert data[8:12] == b"avif"  # the major brand
    for each in (data, data[:8] + b"mif1" + data[12:]):
        assert difference(open_image(each), draw()) < 8


def test_damaged_files_are_refused(heic: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    for end in (12, 20, 64, len(heic) // 2, len(heic) - 20):
        path.write_bytes(heic[:end])
        message = open_error(path)
        assert message.startswith(f"{path}: ")
        assert message.endswith("remove it")
    assert "truncated or corrupt" in message
    for data in (b"\0\0\0\x18ftyp", b"\xff\xff\xff\xffftypheic", b"\0\0\0\0ftypheic"):
        open_error(data)


def test_a_large_image_is_refused_before_decoding(heic: bytes) -> None:
    message = open_error(resize_boxes(heic, (96, 64), (30_000, 30_000)))
    assert "30000 x 30000 pixels are more than the 100,000,000 allowed" in message
    message = open_error(resize_boxes(heic, (96, 64), (9000, 9000)))
    assert "9000 x 9000 pixels take 1.7 GB to decode" in message
    assert "truncated or corrupt" in open_error(resize_boxes(heic, (96, 64), (7000, 7000)))


def test_an_image_larger_than_declared_is_refused() -> None:
    data = encode_heic(Image.new("RGB", (320, 320)))
    assert "Image size 320x320 exceeds" in open_error(resize_boxes(data, (320, 320), (64, 64)))


def test_a_large_image_in_a_small_one_is_refused() -> None:
    """Its transparency, for example, which would be scaled down."""
    images = pillow_heif.from_pillow(draw())
    images.add_from_pillow(Image.new("L", (80, 80)))
    file = io.BytesIO()
    images.save(file, primary_index=0)
    data = resize_boxes(file.getvalue(), (80, 80), (30_000, 30_000))
    assert "contains an image of 900,000,000 pixels" in open_error(data)
    data = resize_boxes(file.getvalue(), (80, 80), (9000, 9000))
    assert "take 1.7 GB to decode" in open_error(data)


def test_an_overlay_is_refused() -> None:
    data = encode_heic(Image.new("RGB", (256, 128)), tile_size=128)
    with pytest.raises(ImageError, match=r"^a\.heic: a HEIF overlay, which may be of any size; "):
        measure_heif_items(io.BytesIO(data.replace(b"grid", b"iovl")), "a.heic")


def box(kind: str, *parts: bytes, long: bool = False) -> bytes:
    content = b"".join(parts)
    if long:
        return struct.pack(">I4sQ", 1, kind.encode(), len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind.encode()) + content


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("wide", [False, True], ids=["16 bits", "32 bits"])
def test_a_grid_is_as_large_as_its_tiles(wide: bool, long: bool) -> None:
    """One tile, a thousand times, in boxes of both layouts."""
    number, full = (">I", b"\1\0\0\1") if wide else (">H", bytes(4))
    info = bytes([3 if wide else 2, 0, 0, 0])
    kinds = [
        box("infe", info, struct.pack(f"{number}2x4s", item, kind))
        for item, kind in ((1, b"grid"), (2, b"hvc1"))
    ]
    sizes = [box("ispe", bytes(4), struct.pack(">II", size, size)) for size in (64, 512)]
    uses = b"".join(
        struct.pack(f"{number}B{'H' if wide else 'B'}", item, 1, (0x8000 if wide else 0x80) | item)
        for item in (1, 2)
    )
    parts = struct.pack(f"{number}H1000{number[1]}", 1, 1000, *[2] * 1000)
    meta = box(
        "meta",
        bytes(4),
        box("iinf", full, struct.pack(number, 2), *kinds),
        box("iprp", box("ipco", *sizes), box("ipma", full, struct.pack(">I", 2), uses)),
        box("iref", full, box("dimg", parts), long=long),
        long=long,
    )
    file = io.BytesIO(box("ftyp", b"heic") + meta + box("mdat", bytes(9)))
    assert measure_heif_items(file, "a.heic") == 1000 * 512 * 512


def test_the_size_of_real_files_is_found(heic: bytes) -> None:
    assert measure_heif_items(io.BytesIO(heic), "a.heic") == 96 * 64
    tiled = encode_heic(draw(300, 200), tile_size=128)
    assert measure_heif_items(io.BytesIO(tiled), "a.heic") == 3 * 2 * 128 * 128


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="measured through Linux's /proc")
@pytest.mark.slow
@pytest.mark.parametrize("size", [(1600, 960), (4000, 3200)])
def test_decoding_takes_at_most_21_bytes_per_pixel(size: tuple[int, int], heic: bytes) -> None:
    """The worst case: 10 bits, transparent, colors in full resolution, rotated."""
    noise = np.random.default_rng(0).integers(0, 1 << 16, (size[1] // 16, size[0] // 16, 4), "<u2")
    pixels = noise.repeat(16, 0).repeat(16, 1)
    image = pillow_heif.from_bytes("RGBA;16", size, pixels.tobytes())
    image.info["exif"] = rotated_exif()
    file = io.BytesIO()
    image.save(file, quality=30, chroma=444)
    data = file.getvalue()
    open_image(heic)
    del image, pixels, file
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    assert open_image(data).size == size[::-1]
    taken = peak_memory() - before
    assert 18 * size[0] * size[1] < taken < 21 * size[0] * size[1] + 12_000_000  # its threads


def test_a_missing_package_is_named(
    heic: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(heic)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reason = "HEIC images need pillow-heif, which is not installed: pip install 'cutline[heic]'"
    assert open_error(path) == f"{path}: {reason}"
    path.write_bytes(b"no image")
    assert "not an image that can be read" in open_error(path)


def test_the_package_is_imported_when_an_image_needs_it(heic: bytes, tmp_path: Path) -> None:
    """In many threads at once; and Pillow remains as it was."""
    (tmp_path / "a.heic").write_bytes(heic)
    program = f"""
import io, sys, threading
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from cutline.image import open_image
file = io.BytesIO()
Image.new("RGB", (8, 8)).save(file, "PNG")
open_image(file.getvalue())
print("pillow_heif" in sys.modules)
barrier = threading.Barrier(8)
def work(_):
    barrier.wait()
    return open_image({str(tmp_path / "a.heic")!r}).size
with ThreadPoolExecutor(8) as pool:
    print(set(pool.map(work, range(8))))
print("HEIF" in Image.OPEN)
"""
    done = run_code(program)
    assert (done.stderr, done.stdout.splitlines()) == (b"", [b"False", b"{(96, 64)}", b"False"])


def test_one_image_is_opened_by_many_threads(heic: bytes) -> None:
    barrier = threading.Barrier(4)

    def work(_: int) -> bytes:
        barrier.wait()
        return open_image(heic).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(12)))) == 1


def test_files_are_found_by_their_names(heic: bytes, tmp_path: Path) -> None:
    names = ["a.heic", "b.HEIF", "c.hif"]
    for name in names:
        (tmp_path / name).write_bytes(heic)
    assert [Path(found.path).name for found in walk.walk_images(tmp_path)] == names
    assert find_image_extension("photo", heic) == "heic"
