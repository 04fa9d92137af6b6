"""run_retrieval that dies while it writes: `checkpoint` (of the sixth update) or `final` (the finished model)."""

import os
import signal
import sys

from hf_videolang.training.run_retrieval import main
from hf_videolang.training.trainer import VideoTrainer

save_rng_state, save_model = VideoTrainer._save_rng_state, VideoTrainer.save_model


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
        VideoTrainer._save_rng_state = die_in_checkpoint
    else:
        VideoTrainer.save_model = die_in_final_save
    sys.exit(main())
