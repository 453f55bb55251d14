"""The page in the browser: a visitor's video and words, the answer, when it is seen, and why."""
