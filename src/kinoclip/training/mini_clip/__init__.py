"""Train the embedded mini CLIP on still frames of KinoShapes: `python -m kinoclip.training.mini_clip --output DIR`.

The images are frames of H.264 videos, decoded again; the texts are captions at several levels of detail (the object,
its color, its shape, the background, everything). What goes beyond plain CLIP training:

- Texts padded with id 0 to 77 tokens are also read at a random place from their last word on, because BIKE's saliency
  reads every one of the 77 token outputs and padding must say the same as the text before it.
- Frames without an object have captions of their own, and are taught to prefer no object to another.
- A linear head reads color and shape from the image tokens, taught by the masks; it is thrown away after training.
- The image tower starts from whitened patches and wave-like positions, and its matrices are trained with Muon.

The last two make the small image tower see shapes after minutes on a CPU.
"""

from .measure import Scores, measure
from .run import train
from .settings import PROMPT, Settings

__all__ = ["PROMPT", "Scores", "Settings", "measure", "train"]
