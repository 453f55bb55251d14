"""The Space: bring a video, write what it may show, and see the answer, when it is seen, and why.

The variable KINOCLIP_SPACE_MODELS names the models to choose from beside the embedded one, with commas between them:
hub ids such as `openai/clip-vit-base-patch32`, or folders. Each is loaded when a visitor first asks for it.
"""

import os

from kinoclip.space.app import build_app, launch_app

names = [name.strip() for name in os.environ.get("KINOCLIP_SPACE_MODELS", "").split(",")]
demo = build_app([name for name in names if name])

if __name__ == "__main__":
    launch_app(demo)
