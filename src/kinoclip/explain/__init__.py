"""Evidence behind a prediction: saliency, attention maps, regions, drawn as pictures and pages."""
