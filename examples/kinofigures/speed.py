"""Measure how many clips of KinoFigures one core draws in a second: python examples/kinofigures/speed.py."""

import time

from kinoclip.kinoshapes import clip_generator
from kinoclip.kinoshapes.figures.actions import ACTIONS
from kinoclip.kinoshapes.figures.benchmark import sample_figures
from kinoclip.kinoshapes.figures.scenes import render_figures


def main() -> None:
    for num_frames, height, width, count in ((8, 64, 64, 290), (16, 96, 128, 58), (8, 720, 1280, 2)):
        specs = [
            sample_figures(
                clip_generator(1, "train", i),
                "actions",
                ACTIONS[i % 29],
                num_frames=num_frames,
                height=height,
                width=width,
            )
            for i in range(count)
        ]
        render_figures(specs[0])
        started = time.process_time()
        for spec in specs:
            render_figures(spec)
        rate = count / (time.process_time() - started)
        print(f"{num_frames} frames of {width} x {height} pixels: {rate:.2f} clips a second of processor time")


if __name__ == "__main__":
    main()
