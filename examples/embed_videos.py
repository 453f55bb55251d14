"""Find videos by a text: python examples/embed_videos.py MODEL "a red circle" VIDEO_OR_FOLDER..."""

import sys

from kinoclip.inference.search import embed_videos, search

model, query, *videos = sys.argv[1:]
# the mean of the frames, because BIKE, which a plain CLIP becomes, weighs frames anew for each text
try:
    embeddings = embed_videos(videos, model=model, pooling="mean")
except (OSError, ValueError) as error:
    sys.exit(str(error))
for video, score in search(embeddings, query)[0]:
    print(f"{score:.3f} {video}")
