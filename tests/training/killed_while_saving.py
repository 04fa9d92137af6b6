"""run_retrieval that dies in the middle of writing: `checkpoint` (the sixth update's) or `final` (the chosen model)."""

import os
import signal
import sys

from hf_videolang.training.contrastive_trainer import ContrastiveTrainer
from hf_videolang.training.run_retrieval import main

save_rng_state, save_model = ContrastiveTrainer._save_rng_state, ContrastiveTrainer.save_model


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_checkpoint(self, output_dir):
    if output_dir.endswith("checkpoint-6"):
        os.truncate(os.path.join(output_dir, "optimizer.pt"), 1000)
        die()
    save_rng_state(self, output_dir)


def die_in_final_save(self, output_dir=None, _internal_call=False):
    save_model(self, output_dir, _internal_call)
    if output_dir is None:
        os.truncate(os.path.join(self.args.output_dir, "model.safetensors"), 1000)
        die()


if __name__ == "__main__":
    if sys.argv.pop(1) == "checkpoint":
        ContrastiveTrainer._save_rng_state = die_in_checkpoint
    else:
        ContrastiveTrainer.save_model = die_in_final_save
    sys.exit(main())
