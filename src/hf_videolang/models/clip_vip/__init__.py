"""CLIP-ViP: text-to-video retrieval with video proxy tokens on CLIP."""
