"""Training: optimizer groups, schedules, the script behind the embedded model."""
