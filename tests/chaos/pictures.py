"""Pictures of every format that the installed Pillow knows, damaged and renamed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO

from chaos.mutations import seeded
from PIL import Image

from kinoclip.video.pictures import IMAGE_SUFFIXES

# the first bytes of formats that Pillow reads and cannot write, followed by noise
_STARTS = {
    "CUR": b"\0\0\2\0\1\0\x10\x10\0\0\1\0\1\0\x30\0\0\0\x16\0\0\0",
    "DCX": b"\xb1\x68\xde\x3a\x10\0\0\0",
    "FITS": b"SIMPLE  =                    T" + b" " * 50 + b"BITPIX  =                    8" + b" " * 50,
    "FLI": b"\0\1\0\0\x12\xaf\2\0\x10\0\x10\0\x08\0\0\0",
    "FTEX": b"FTEX\0\0\0\x10\0\0\0\x10\0\0\0\1\0\0\0\1\0\0\0",
    "GBR": b"\0\0\0\x1c\0\0\0\2\0\0\0\x10\0\0\0\x10\0\0\0\1GIMP\0\0\0\1",
    "IMT": b"IMT\nwidth 16\nheight 16\n\x0c",
    "IPTC": b"\x1c\3\x3c\0\2\0\1\x1c\3\x14\0\2\0\x10",
    "MCIDAS": b"\0\0\0\0\0\0\0\4",
    "PCD": b"PCD_" + bytes(2044) + b"PCD_",
    "PIXAR": b"\x80\xe8\0\0" + bytes(412) + b"\x10\0\x10\0",
    "PSD": b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3",
    "SUN": b"\x59\xa6\x6a\x95\0\0\0\x10\0\0\0\x10\0\0\0\x18\0\0\3\0\0\0\0\1",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0\0\0\0\0\x10\0\x10\0\x60\0\0\0\0\0\0\0\1\0\x09\0",
    "XPM": b'/* XPM */\nstatic char *a[] = {\n"2 2 1 1",\n"a c #ff0000",\n"aa",\n"aa"};\n',
    "XVTHUMB": b"P7 332\n#END_OF_COMMENTS\n16 16 255\n",
}
_POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(/etc/passwd) (r) file\n%%EOF\n"


def whole_pictures() -> dict[str, bytes]:
    """Return a picture, or a beginning of one, by the name of each format that Pillow knows."""
    Image.init()
    noise = random.Random(1).randbytes(3000)
    contents = {name: start + noise for name, start in _STARTS.items()} | {"EPS": _POSTSCRIPT}
    picture = Image.effect_noise((32, 24), 60)
    for kind in sorted({*Image.SAVE, *Image.ID} - contents.keys()):
        for mode in ("RGB", "L", "P", "1", "F"):
            out = BytesIO()
            try:
                picture.convert(mode).save(out, kind)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            contents[f"{kind} {mode}"] = out.getvalue()
    first, second = picture.convert("RGB"), picture.rotate(90).convert("RGB")
    for kind in ("PNG", "WEBP", "GIF", "TIFF", "MPO", "AVIF"):
        out = BytesIO()
        if kind in Image.SAVE_ALL:
            first.save(out, kind, save_all=True, append_images=[second, first])
            contents[f"animated {kind}"] = out.getvalue()
    return contents


def picture_attacks(seeds: range) -> Iterator[tuple[str, str, bytes]]:
    """Yield a name, the suffix of an image, and a content: each whole picture, then damaged ones."""
    contents = whole_pictures()
    names, suffixes = list(contents), sorted(IMAGE_SUFFIXES)
    for number, name in enumerate(names):
        suffix = suffixes[number % len(suffixes)]
        yield f"whole {name} as {suffix}", suffix, contents[name]
    for seed in seeds:
        draws = random.Random(seed)
        name, suffix = draws.choice(names), draws.choice(suffixes)
        content = contents[name]
        for _ in range(draws.randint(1, 3)):
            content = seeded(content + bytes(9), contents[draws.choice(names)], draws.getrandbits(32))
        yield f"{name} as {suffix}, seed {seed}", suffix, content
