"""Texts: labels, templates, tokens, attributes, Chinese names, descriptions and ALT's corpus."""
