"""Small valid files of all kinds that ingest reads."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import tifffile
from PIL import Image

RATE_HZ = 8_000
LINES = [f"Line {n} of a text, which has some words — and a dash." for n in range(12)]


# -------------------------------------------------------------------------------------------- images


def image(n: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(n)
    return Image.fromarray(rng.integers(0, 256, (12 + n, 16, 3), dtype=np.uint8)).convert(mode)


def image_file(form: str, n: int) -> bytes:
    file = io.BytesIO()
    if form == "TIFF16":
        tifffile.imwrite(file, np.asarray(image(n, "L"), np.uint16) * 257, compression="zlib")
    elif form == "GIF2":
        image(n, "P").save(file, "GIF", save_all=True, append_images=[image(n + 1, "P")])
    elif form == "PNGA":
        image(n, "RGBA").save(file, "PNG")
    elif form == "TIFFLZW":
        image(n).save(file, "TIFF", compression="tiff_lzw")
    else:
        image(n, "P" if form in ("GIF", "PCX") else "RGB").save(file, form)
    return file.getvalue()


IMAGES = (
    *("JPEG", "PNG", "PNGA", "GIF", "GIF2", "BMP", "WEBP", "AVIF", "TIFF", "TIFF16", "TIFFLZW", "JPEG2000", "PPM"),
    *("ICO", "TGA", "PCX", "SGI", "MPO"),
)


# ------------------------------------------------------------------------------------------- sounds


def wave(n: int) -> np.ndarray:
    return (0.4 * np.sin(np.arange(2_000 + 400 * n) * (0.1 + n / 20))).astype(np.float32)


SOUNDFILES = {
    "WAV": ("WAV", "PCM_16"),
    "WAVFLOAT": ("WAV", "FLOAT"),
    "WAVADPCM": ("WAV", "IMA_ADPCM"),
    "FLAC": ("FLAC", "PCM_16"),
    "OGG": ("OGG", "VORBIS"),
    "OPUS": ("OGG", "OPUS"),
    "MP3": ("MP3", "MPEG_LAYER_III"),
    "AIFF": ("AIFF", "PCM_16"),
    "AU": ("AU", "PCM_16"),
    "CAF": ("CAF", "PCM_16"),
    "W64": ("W64", "PCM_16"),
}
AV_FILES = {"M4A": ("mp4", "aac"), "MKA": ("matroska", "pcm_s16le"), "AAC": ("adts", "aac"), "WMA": ("asf", "wmav2")}
SOUNDS = (*SOUNDFILES, *AV_FILES)


def sound_file(form: str, n: int) -> bytes:
    file = io.BytesIO()
    if form in SOUNDFILES:
        kind, subtype = SOUNDFILES[form]
        soundfile.write(file, wave(n), RATE_HZ, format=kind, subtype=subtype)
        return file.getvalue()
    container_name, codec = AV_FILES[form]
    with av.open(file, "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray((wave(n)[None] * 32_767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        for ready in (frame, None):
            container.mux(stream.encode(ready))
    return file.getvalue()


# ------------------------------------------------------------------------------- arrays, tables, archives


def npz(n: int) -> bytes:
    file = io.BytesIO()
    images = np.random.default_rng(n).integers(0, 256, (4, 6, 5), dtype=np.uint8)
    (np.savez_compressed if n % 2 else np.savez)(file, x_train=images, y_train=np.arange(4), x_test=images[:2] ^ 1)
    return file.getvalue()


def idx(n: int) -> bytes:
    images = np.random.default_rng(n).integers(0, 256, (4, 6, 5), dtype=np.uint8)
    head = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
    return gzip.compress(head + images.tobytes()) if n % 2 else head + images.tobytes()


def table(name: str, values: list[object], n: int) -> bytes:
    file = io.BytesIO()
    columns = pa.table({name: values, "label": [f"class {row % 2}" for row in range(len(values))]})
    pq.write_table(columns, file, row_group_size=3, compression=("none", "snappy", "zstd")[n % 3])
    return file.getvalue()


def tar(members: dict[str, bytes], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{mode}") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return file.getvalue()


def packed_zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _images(n: int) -> dict[str, bytes]:
    return {f"{split}/c{k}/{k}.png": image_file("PNG", k + n) for split in ("train", "test") for k in range(3)}


def _sounds(n: int) -> dict[str, bytes]:
    return {f"{split}/c{k}/{k}.wav": sound_file("WAV", k) for split in ("train", "test") for k in range(2 + n)}


def _texts(n: int) -> dict[str, bytes]:
    return {f"{split}/{k}.txt": "\n".join(LINES[k : k + n + 3]).encode() for split in ("train", "test") for k in (1, 2)}


def _jsonl(n: int) -> bytes:
    return "\n".join(json.dumps({"text": line, "label": n, "more": [{"a": [1]}]}) for line in LINES[n:]).encode()


def _csv(n: int) -> bytes:
    return ("text,label\n" + "\n".join(f'"{line}, quoted",{n}' for line in LINES[n:])).encode()


def _zst(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def _text(n: int) -> bytes:
    return "\n".join(LINES[n:]).encode()


Maker = Callable[[int], bytes]
CONTAINERS: dict[str, dict[str, Maker]] = {
    "vision": {
        "a.npz": npz,
        "images-idx3-ubyte": idx,
        "a.parquet": lambda n: table("image", [image_file("PNG", k) for k in range(6)], n),
        "a.zip": lambda n: packed_zip(_images(n)),
        "a.tar": lambda n: tar(_images(n), ""),
        "a.tar.gz": lambda n: tar(_images(n), "gz"),
        "a.tar.bz2": lambda n: tar(_images(n), "bz2"),
        "a.tar.xz": lambda n: tar(_images(n), "xz"),
    },
    "speech": {
        "a.parquet": lambda n: table("audio", [{"bytes": sound_file("WAV", k), "path": "x"} for k in range(4)], n),
        "a.zip": lambda n: packed_zip(_sounds(n)),
        "a.tar": lambda n: tar(_sounds(n), ""),
        "a.tar.gz": lambda n: tar(_sounds(n), "gz"),
    },
    "text": {
        "a.txt": _text,
        "utf16.txt": lambda n: _text(n).decode().encode("utf-16"),
        "a.txt.gz": lambda n: gzip.compress(_text(n)),
        "a.txt.bz2": lambda n: bz2.compress(_text(n)),
        "a.txt.xz": lambda n: lzma.compress(_text(n)),
        "a.txt.zst": lambda n: _zst(_text(n)),
        "a.jsonl": _jsonl,
        "a.jsonl.gz": lambda n: gzip.compress(_jsonl(n)),
        "a.json": lambda n: b"[" + b",".join(_jsonl(n).splitlines()) + b"]",
        "a.csv": _csv,
        "a.tsv": lambda n: _csv(n).replace(b",", b"\t"),
        "a.csv.gz": lambda n: gzip.compress(_csv(n)),
        "a.parquet": lambda n: table("text", list(LINES[n:]), n),
        "a.zip": lambda n: packed_zip(_texts(n)),
        "a.tar": lambda n: tar(_texts(n), ""),
        "a.tar.gz": lambda n: tar(_texts(n), "gz"),
    },
}
ITEMS: dict[str, dict[str, Maker]] = {
    "vision": {form: lambda n, form=form: image_file(form, n) for form in IMAGES},  # type: ignore[misc]
    "speech": {form: lambda n, form=form: sound_file(form, n) for form in SOUNDS},  # type: ignore[misc]
}
