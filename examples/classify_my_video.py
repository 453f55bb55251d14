"""Name the action in a video, with your own labels: python examples/classify_my_video.py VIDEO [MODEL]."""

import sys

import kinoclip

video, model = sys.argv[1], (sys.argv[2:] or ["openai/clip-vit-base-patch32"])[0]
try:
    answer = kinoclip.classify(video, ["diving", "archery", "juggling balls"], model=model)
except (OSError, ValueError) as error:
    sys.exit(str(error))
for label, probability in answer:
    print(f"{probability:6.1%}  {label}")
