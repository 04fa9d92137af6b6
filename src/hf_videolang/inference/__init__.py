"""A trained model at work on many videos."""
