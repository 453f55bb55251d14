"""What every recognizer shares: the recognizer, its configuration, processors, outputs, losses, checkpoints and layers."""
