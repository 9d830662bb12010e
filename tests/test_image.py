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
from rsbench.media import image as image_module
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


def _by_pillow(path):
    """Give Pillow's pixels, upright, uint8 (H, W, 3)."""
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _photograph(height, width):
    """Give something smooth with edges and noise, uint8 (H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 3, columns * 2, rows + columns], axis=2)
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
    return ((smooth + noise + 80 * (columns > width // 2)[..., None]) % 256).astype(np.uint8)


@pytest.fixture
def left_to_pillow(monkeypatch):
    """Collect the files that the slower decoder was asked for."""
    paths = []
    real = image_module._read_by_pillow

    def spy(path):
        paths.append(path)
        return real(path)

    monkeypatch.setattr(image_module, "_read_by_pillow", spy)
    return paths


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 17), (33, 64), (75, 50)])
def test_jpegs_of_every_kind_have_pillows_pixels(tmp_path, left_to_pillow, mode, size):
    picture = Image.fromarray(_photograph(*size)).convert(mode)
    kinds = [{"subsampling": each} for each in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")]
    kinds += [{"keep_rgb": True}, {"restart_marker_blocks": 2}, {"icc_profile": b"none" * 9}]
    for number, kind in enumerate(kinds):
        for quality in (5, 75, 100):
            for progressive in (False, True):
                path = tmp_path / f"{number}_{quality}_{progressive}.jpg"
                picture.save(path, quality=quality, progressive=progressive, **kind)

                pixels = read_image(path)

                assert np.array_equal(pixels, _by_pillow(path)), path.name
                assert pixels.flags.writeable and pixels.flags.c_contiguous
                assert (path in left_to_pillow) == progressive


def _sampled(picture, *factors):
    """Give a JPEG's bytes with other sampling factors in its frame, three of (across, down)."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=90, subsampling="4:4:4")
    content = bytearray(stream.getvalue())
    at = content.index(b"\xff\xc0") + 11
    content[at : at + 7 : 3] = bytes(16 * across + down for across, down in factors)
    return bytes(content)


def test_jpegs_of_unusual_sampling_have_pillows_pixels(tmp_path):
    # The coded blocks of a 4:4:4 file last for any of these: more is left over than is missing.
    picture, path = Image.fromarray(_photograph(61, 43)), tmp_path / "a.jpg"
    both = ((1, 1), (2, 1), (1, 2), (2, 2))
    num_read = 0
    for luma in (*both, (4, 1), (1, 4), (2, 4), (4, 2)):
        for blue in both:
            for red in both:
                path.write_bytes(_sampled(picture, luma, blue, red))
                try:
                    expected = _by_pillow(path)
                except OSError:
                    continue
                assert np.array_equal(read_image(path), expected), (luma, blue, red)
                num_read += 1
    assert num_read > 90


def test_a_progressive_jpeg_that_ends_after_any_scan_has_pillows_pixels(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(_photograph(64, 80)).save(path, quality=90, progressive=True)
    whole = path.read_bytes()
    scans = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    assert len(scans) == 10
    for end in scans[1:]:
        path.write_bytes(whole[:end] + b"\xff\xd9")

        assert np.array_equal(read_image(path), _by_pillow(path)), scans.index(end)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_jpegs_is_applied(tmp_path, left_to_pillow, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "a.jpg", Image.fromarray(_photograph(24, 40)), exif=exif)

    pixels = read_image(path)

    assert np.array_equal(pixels, _by_pillow(path))
    assert pixels.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert left_to_pillow == []


def test_what_is_no_plain_jpeg_is_left_to_pillow(tmp_path, left_to_pillow):
    picture = Image.fromarray(_photograph(24, 40))
    paths = [
        _save(tmp_path / "print.jpg", picture.convert("CMYK")),
        _save(tmp_path / "several.mpo", picture, save_all=True, append_images=[picture.rotate(9)]),
        _save(tmp_path / "a.png", picture),
    ]

    for path in paths:
        assert np.array_equal(read_image(path), _by_pillow(path)), path.name

    assert left_to_pillow == paths


def test_bytes_after_the_end_of_a_jpeg_change_nothing(tmp_path):
    path = _save(tmp_path / "a.jpg", Image.fromarray(_photograph(24, 40)))
    expected = _by_pillow(path)

    path.write_bytes(path.read_bytes() + b"\0" * 100 + b"rubbish")

    assert np.array_equal(read_image(path), expected)


def test_a_jpeg_larger_than_what_is_read_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "MAX_IMAGE_PIXELS", 24 * 40 - 1)
    path = _save(tmp_path / "a.jpg", Image.fromarray(_photograph(24, 40)))

    with pytest.raises(MediaError, match=r"a\.jpg: must have at most 959 pixels, was 40 x 24"):
        read_image(path)


def test_damaged_jpegs_are_read_or_refused_as_by_pillow(tmp_path):
    path = _save(tmp_path / "a.jpg", Image.fromarray(_photograph(64, 80)), quality=90)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    num_read = num_refused = 0
    for number in range(150):
        damaged = bytearray(whole)
        place = int(generator.integers(2, len(whole) - 2))
        if number % 3 == 0:
            damaged[place] = int(generator.integers(256))
        elif number % 3 == 1:
            del damaged[place : place + 20]
        else:
            damaged[place:] = b"\xff\xd9"
        path.write_bytes(damaged)
        try:
            expected = _by_pillow(path)
        except Exception:
            with pytest.raises(MediaError, match=r"^a\.jpg: must be a picture that decodes"):
                read_image(path)
            num_refused += 1
        else:
            assert np.array_equal(read_image(path), expected), number
            num_read += 1
    assert num_read > 50
    assert num_refused > 10


@pytest.mark.skipif(not SHARED.is_dir(), reason="real pictures (../shared) are absent")
def test_real_jpegs_have_pillows_pixels(left_to_pillow):
    paths = sorted(
        path for path in SHARED.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".jpe")
    )
    assert len(paths) > 5000
    # All of them take a quarter of a minute; every ninth is of every set.
    paths = paths if "RSBENCH_SOAK" in os.environ else paths[::9]
    jpegs = [path for path in paths if path.read_bytes()[:3] == b"\xff\xd8\xff"]

    different = [path for path in jpegs if not np.array_equal(read_image(path), _by_pillow(path))]

    assert different == []
    assert left_to_pillow == [path for path in jpegs if _is_progressive(path)]


def _is_progressive(path):
    """Ask Pillow."""
    with Image.open(path) as picture:
        return "progressive" in picture.info


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
