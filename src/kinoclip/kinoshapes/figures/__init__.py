"""KinoFigures: short videos of people who act, drawn from skeletons, with labels, captions, spans, joints and masks."""
