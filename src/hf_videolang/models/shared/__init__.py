"""What the families' model code shares. Saved folders carry it as remote code."""
