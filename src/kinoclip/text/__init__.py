"""Words: prompt templates, label sets, attribute lexicons."""
