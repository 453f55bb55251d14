"""The Space: upload a video, write labels, and see the most probable one, when it is seen, and why.

The variable KINOCLIP_SPACE_MODELS names more models than the embedded ones, separated by commas: hub ids such as
`openai/clip-vit-base-patch32`, or folders. A model is loaded on first use.
"""

import os

from kinoclip.space.app import build_app, launch_app

names = [name.strip() for name in os.environ.get("KINOCLIP_SPACE_MODELS", "").split(",")]
demo = build_app([name for name in names if name])

if __name__ == "__main__":
    launch_app(demo)
