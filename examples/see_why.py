"""Draw which frames spoke for a label: python examples/see_why.py VIDEO PICTURE [MODEL]."""

import sys

import kinoclip
from kinoclip.explain.drawing import draw_explanation, saliency_bar

video, picture, model = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["openai/clip-vit-base-patch32"])[0]
try:
    answer = kinoclip.classify(video, ["diving", "archery", "juggling balls"], model=model, explain=True)
except (OSError, ValueError) as error:
    sys.exit(str(error))
for label, probability in answer:
    print(f"{probability:6.1%}  |{saliency_bar(answer.saliency[label])}|  {label}")
draw_explanation(answer).save(picture)
