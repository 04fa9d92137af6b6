"""Fine-tuning: recipes, `RetrievalTrainer`, and thin `run_<task>` modules that are launched with `accelerate launch -m`."""
