from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_simvae.data.decoding import Format, decode, probe
from pyro_simvae.data.sources import Source
from pyro_simvae.errors import InputError

RGB, GREY = Format(3, 6, 8, convert=True), Format(1, 6, 8, convert=True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("target", [RGB, GREY])
def test_every_mode_is_decoded_to_either(tmp_path: Path, mode: str, target: Format) -> None:
    path = str(tmp_path / ("image.tif" if mode == "CMYK" else "image.png"))
    if mode == "I;16":
        Image.fromarray(np.full((6, 8), 65535, dtype=np.uint16)).save(path)
    else:
        Image.new("RGB", (8, 6), "white").convert(mode).save(path)
    image = decode(Source(path), target)
    assert image.shape == target.event_shape
    assert image.dtype == torch.uint8
    assert (image == 255).all()
    assert probe(Source(path)).channels == (1 if mode in ("1", "L", "LA", "I;16") else 3)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = str(tmp_path / "image.png")
    Image.fromarray(np.full((6, 8), 0x4040, dtype=np.uint16)).save(path)
    assert (decode(Source(path), GREY) == 0x40).all()


def test_floats_are_read_in_the_unit_interval_and_refused_outside(tmp_path: Path) -> None:
    path = str(tmp_path / "image.tif")
    Image.fromarray(np.full((6, 8), 0.2, dtype=np.float32)).save(path)
    assert (decode(Source(path), GREY) == 51).all()
    Image.fromarray(np.full((6, 8), 2.0, dtype=np.float32)).save(path)
    with pytest.raises(InputError, match=r"image.tif has pixels outside \[0, 1\]; scale them"):
        decode(Source(path), GREY)


def test_other_sizes_cover_the_frame_and_are_cropped_to_their_centre(tmp_path: Path) -> None:
    path = str(tmp_path / "wide.png")
    pixels = np.zeros((10, 40), dtype=np.uint8)
    pixels[:, 15:25] = 200
    Image.fromarray(pixels).save(path)
    assert (decode(Source(path), Format(1, 5, 5, convert=False)).float() - 200).abs().max() < 30
    same = decode(Source(path), Format(1, 10, 40, convert=False))
    assert torch.equal(same[0], torch.from_numpy(pixels))


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    path = str(tmp_path / "turned.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by a quarter
    Image.new("RGB", (8, 6)).save(path, exif=exif)
    assert probe(Source(path)).event_shape == (3, 8, 6)


def test_channels_must_agree_unless_converted(tmp_path: Path) -> None:
    path = str(tmp_path / "grey.png")
    Image.new("L", (8, 6)).save(path)
    with pytest.raises(InputError, match=r"grey.png has 1 channel where .* 3 channels; .*--data.channels 3"):
        decode(Source(path), RGB._replace(convert=False))


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.png"
    if content is None:  # cut short
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()[:3000]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad.png is not an image that can be read; remove it"):
        decode(Source(str(path)), RGB)
