"""KinoShapes: short videos of moving colored shapes, generated with labels, captions, spans and masks."""

from kinoclip.kinoshapes.clips import (
    OBJECTS,
    SPLITS,
    VERBS,
    ClipSpec,
    KinoClip,
    LabelKind,
    Segment,
    Span,
    Split,
    clip_generator,
    label_names,
    render,
    sample_spec,
)
from kinoclip.kinoshapes.drawing import BACKGROUNDS, COLORS, SHAPES
from kinoclip.kinoshapes.files import encode_video, kinoshapes_clips, kinoshapes_dataset, write_kinoshapes, write_video

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "OBJECTS",
    "SHAPES",
    "SPLITS",
    "VERBS",
    "ClipSpec",
    "KinoClip",
    "LabelKind",
    "Segment",
    "Span",
    "Split",
    "clip_generator",
    "encode_video",
    "kinoshapes_clips",
    "kinoshapes_dataset",
    "label_names",
    "render",
    "sample_spec",
    "write_kinoshapes",
    "write_video",
]
