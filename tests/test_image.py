"""Every mode, orientation and fault of picture files; expected pixels by hand or by Pillow."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from rsbench.errors import MediaError
from rsbench.media.image import MAX_IMAGE_PIXELS, read_image, write_image

SHARED = Path(__file__).parents[2] / "shared" / "data"


def _picture():
    """Give a lopsided RGB picture, uint8 (4, 6, 3)."""
    return np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def _save(path, image, **options):
    image.save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path):
    path = _save(tmp_path / "a.png", Image.fromarray(_picture()))

    pixels = read_image(path)

    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, _picture())


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = _picture()[..., 0]
    path = _save(tmp_path / "a.png", Image.fromarray(grey))

    assert np.array_equal(read_image(path), np.stack([grey] * 3, axis=2))


def test_black_and_white_becomes_0_and_255(tmp_path):
    bits = np.eye(5, dtype=bool)
    path = _save(tmp_path / "a.png", Image.fromarray(bits))

    assert np.array_equal(read_image(path)[..., 1], np.where(bits, 255, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_not_blended(tmp_path, mode):
    picture = Image.fromarray(_picture()).convert(mode)
    picture.putalpha(Image.new("L", picture.size, 7))
    path = _save(tmp_path / "a.png", picture)
    expected = Image.fromarray(_picture()).convert("L" if mode == "LA" else "RGB").convert("RGB")

    assert np.array_equal(read_image(path), np.asarray(expected))


@pytest.mark.parametrize("transparency", [1, b"\x00\x80\xff"])
def test_a_palette_with_transparent_colours_gives_its_colours(tmp_path, transparency):
    picture = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    path = _save(tmp_path / "a.png", picture, transparency=transparency)

    pixels = read_image(path)

    assert pixels[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]


def test_print_colours_are_converted(tmp_path):
    # 100 % cyan without black is (0, 255, 255); no ink at all is white.
    picture = Image.new("CMYK", (64, 32), (255, 0, 0, 0))
    picture.paste((0, 0, 0, 0), (32, 0, 64, 32))
    path = _save(tmp_path / "a.jpg", picture, quality=100)

    pixels = read_image(path).astype(int)

    assert np.abs(pixels[16, 8] - [0, 255, 255]).max() <= 3
    assert np.abs(pixels[16, 56] - [255, 255, 255]).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    path = _save(tmp_path / f"a{suffix}", Image.fromarray(values))

    # value / 257, rounded: 0, 0.498, 0.502, 1, 127.502, 255.
    assert read_image(path)[0, :, 2].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_samples_without_a_range_are_refused(tmp_path, kind):
    path = _save(tmp_path / "a.tif", Image.fromarray(np.ones((4, 4), dtype=kind)))

    with pytest.raises(MediaError, match=r"a\.tif: samples must have 8 or 16 bits, have 32"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sixteen_bits", [False, True])
def test_exif_orientation_is_applied(tmp_path, orientation, sixteen_bits):
    stored = _picture()[..., 0]
    if sixteen_bits:
        stored = stored.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "a.png", Image.fromarray(stored), exif=exif)
    with Image.open(path) as image:
        reference = np.asarray(ImageOps.exif_transpose(image)).astype(int)

    pixels = read_image(path)[..., 0]

    assert pixels.shape == ((4, 6) if orientation < 5 else (6, 4))
    assert np.array_equal(pixels, reference // (257 if sixteen_bits else 1))


@pytest.mark.parametrize("exif", [b"Exif\x00\x00MM\x00*\xff\xff", b"Exif\x00\x00", b"rubbish" * 9])
def test_a_damaged_exif_block_leaves_the_picture_as_stored(tmp_path, exif):
    path = _save(tmp_path / "a.png", Image.fromarray(_picture()), exif=exif)

    assert np.array_equal(read_image(path), _picture())


def test_an_orientation_that_does_not_exist_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    path = _save(tmp_path / "a.png", Image.fromarray(_picture()), exif=exif)

    assert np.array_equal(read_image(path), _picture())


def test_of_several_pictures_the_first_is_read(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    path = _save(tmp_path / "a.gif", first, save_all=True, append_images=[second])

    assert read_image(path)[4, 4].tolist() == [255, 0, 0]


def test_the_suffix_plays_no_part(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(_picture()).save(path, format="PNG")

    assert np.array_equal(read_image(path), _picture())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_a_file_cut_short_is_refused_not_filled_with_grey(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = _save(tmp_path / f"a{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(MediaError) as caught:
        read_image(path)

    assert str(caught.value).startswith(f"a{suffix}: must be a picture that decodes")
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.png"
    side = int(MAX_IMAGE_PIXELS**0.5) + 1

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    )

    with pytest.raises(MediaError, match=rf"bomb\.png: must have at most .* {side} x {side}"):
        read_image(path)


def test_a_bomb_beyond_pillows_own_limit_is_refused_too(tmp_path):
    path = tmp_path / "bomb.pbm"
    path.write_bytes(b"P4\n100000 100000\n" + b"\0" * 100)

    with pytest.raises(MediaError, match=r"^bomb\.pbm: [^\n]+$"):
        read_image(path)


def _postscript(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


@pytest.mark.parametrize(
    "make",
    [
        Path.touch,
        lambda path: path.write_text("no picture"),
        _postscript,
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to(path.with_name("gone")),
        lambda path: None,
    ],
    ids=["empty", "text", "postscript", "folder", "pipe", "dangling-link", "missing"],
)
def test_what_is_no_picture_is_one_line_with_its_name(tmp_path, make):
    path = tmp_path / "strange.png"
    make(path)

    with pytest.raises(MediaError) as caught:
        read_image(path)

    assert str(caught.value).startswith("strange.png: must be a ")
    assert "\n" not in str(caught.value)


def test_no_warning_of_pillow_reaches_the_reader(tmp_path, recwarn):
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    path = _save(tmp_path / "a.png", picture, transparency=b"\x00\x80")
    recwarn.clear()

    read_image(path)

    assert list(recwarn) == []


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, _picture()[:, ::-1])

    assert np.array_equal(read_image(path), _picture()[:, ::-1])
    assert list(tmp_path.iterdir()) == [path]


def test_jpeg_is_written_at_quality_95(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = io.BytesIO()
    Image.fromarray(pixels).save(expected, format="JPEG", quality=95)

    write_image(tmp_path / "a.jpg", pixels)

    assert (tmp_path / "a.jpg").read_bytes() == expected.getvalue()


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.unknown", np.zeros((4, 4, 3), np.uint8)),
        ("none/a.png", np.zeros((4, 4, 3), np.uint8)),
        ("a.png", np.zeros((4, 4, 3), np.float32)),
        ("a.png", np.zeros((4, 4, 2), np.uint8)),
        ("a.png", np.zeros((0, 4, 3), np.uint8)),
    ],
)
def test_what_can_not_be_written_leaves_no_file(tmp_path, name, pixels):
    with pytest.raises(MediaError, match=r"^a\.[a-z]+: [^\n]+$"):
        write_image(tmp_path / name, pixels)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="real pictures (../shared) are absent")
def test_real_pictures_of_mixed_modes_are_read():
    paths = sorted(
        path
        for path in (SHARED / "covid_ct_2d").rglob("*")
        if path.suffix.lower() in (".png", ".jpg", ".jpeg")
    )
    assert len(paths) == 100

    for path in paths[::4]:
        pixels = read_image(path)
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
