"""The language for describing search spaces, from single layers to cells."""
