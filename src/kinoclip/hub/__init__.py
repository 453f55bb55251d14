"""Publishing: the folder that a checkpoint is."""
