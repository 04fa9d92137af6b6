"""What two families' model code really shares. Ships with every saved folder as flattened remote code."""
