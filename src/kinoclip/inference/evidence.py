"""What an explanation says of one video, as plain data by label and entity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kinoclip.outputs import Explanation

# how many entities of the corpus an answer names
_MAX_ENTITIES = 5


def read_evidence(
    explanation: Explanation, labels: Sequence[str], chosen: Sequence[int], num_clips: int = 1
) -> dict[str, Any]:
    """Give the fields of a `Classification` that say why, from the explanation of all views of one video.

    Args:
        explanation: its rows are views, crops outermost, then clips. Crops see the same frames and are averaged, or for what
            has a place in the frame the first one counts; clips see different frames, one behind another.
        labels: of all candidates.
        chosen: the candidates that the answer names.
        num_clips: of the views.
    """
    found: dict[str, Any] = {}
    if explanation.saliency is not None:
        per_clip = explanation.saliency.float().unflatten(0, (-1, num_clips)).mean(0)
        whole = per_clip.transpose(0, 1).flatten(1) / num_clips
        found["saliency"] = {labels[i]: whole[i].tolist() for i in chosen}
    for name in ("attention", "regions"):
        maps: Tensor | None = getattr(explanation, name)
        if maps is not None:
            found[name] = maps[:num_clips].flatten(0, 1).cpu()
    entities, scores, names = explanation.entities, explanation.entity_scores, explanation.entity_names
    if entities is not None and scores is not None and names is not None:
        entities, scores = (maps[:num_clips].flatten(0, 1).cpu() for maps in (entities, scores.float()))
        found |= _read_entities(entities, scores, names, found.get("regions"))
    if explanation.english is not None and explanation.chinese is not None:
        english, chinese = (votes.float().mean(0) for votes in (explanation.english, explanation.chinese))
        by_label = {"english": english, "chinese": chinese}
        found["languages"] = {name: {labels[i]: float(votes[i]) for i in chosen} for name, votes in by_label.items()}
        found["agreement"] = float(torch.minimum(english, chinese).sum())
    return found


def _read_entities(entities: Tensor, scores: Tensor, names: Sequence[str], regions: Tensor | None) -> dict[str, Any]:
    """Find the entities with the highest cosines (T, M), in sum over all regions, and the patches that show them."""
    totals = torch.zeros(len(names)).index_add(0, entities.flatten(), scores.flatten())
    seen = entities.unique()
    best = seen[totals[seen].argsort(descending=True, stable=True)][:_MAX_ENTITIES]
    per_frame = torch.where(entities == best[:, None, None], scores, 0).sum(-1)
    patches = entities[..., None]  # aligned as a whole, a frame is one patch
    if regions is not None and entities.shape[1] > 1:
        patches = entities.gather(1, regions.flatten(1)).view_as(regions)
    ranks = torch.full((len(names),), -1)
    ranks[best] = torch.arange(len(best))
    return {
        "entities": {names[i]: row.tolist() for i, row in zip(best.tolist(), per_frame, strict=True)},
        "entity_map": ranks[patches],
    }
