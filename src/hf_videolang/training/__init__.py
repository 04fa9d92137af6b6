"""Training: trainers, their arguments, recipes, and the commands `run_<task>` for `accelerate launch -m`."""
