"""Read videos: exact frames, the papers' sampling rules, augmentation and crops."""
