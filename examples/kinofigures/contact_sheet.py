"""Draw every action of KinoFigures as a strip of 8 frames: python examples/kinofigures/contact_sheet.py FILE.jpg."""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kinoclip.kinoshapes import clip_generator
from kinoclip.kinoshapes.figures.actions import ACTIONS, UNSEEN
from kinoclip.kinoshapes.figures.benchmark import sample_figures
from kinoclip.kinoshapes.figures.scenes import render_figures

SIZE, LABEL, FRAMES, COLUMNS = 80, 120, 8, 2


def main(path: str) -> None:
    actions = (*ACTIONS, *UNSEEN)
    rows = -(-len(actions) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (LABEL + FRAMES * SIZE), rows * SIZE), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for number, action in enumerate(actions):
        rng = clip_generator(0, "validation", number)
        left, top = number // rows * (LABEL + FRAMES * SIZE), number % rows * SIZE
        clip = render_figures(sample_figures(rng, "details", action, num_frames=FRAMES * 2, height=SIZE, width=SIZE))
        while "occluder" in clip.things:
            clip = render_figures(
                sample_figures(rng, "details", action, num_frames=FRAMES * 2, height=SIZE, width=SIZE)
            )
        strip = np.concatenate(clip.frames[1::2], axis=1)
        sheet.paste(Image.fromarray(strip), (left + LABEL, top))
        words = action.label.split()
        lines = [" ".join(words[:2]), " ".join(words[2:])]
        draw.text((left + 6, top + 14), "\n".join(lines), "black", font)
    sheet.save(path, quality=76, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
