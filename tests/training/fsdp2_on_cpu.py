"""run_retrieval under fsdp2.yaml without a GPU. Accelerate shards on GPUs only, so the CPU pretends to be one."""

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

initialise = PartialState.__init__


def initialise_as_gpu(self, cpu=False, **kwargs):
    first = not PartialState._shared_state
    initialise(self, cpu=True, **kwargs)
    if first:
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU


PartialState.__init__ = initialise_as_gpu  # type: ignore[method-assign]

if __name__ == "__main__":
    from hf_videolang.training.processes import end_process
    from hf_videolang.training.run_retrieval import main

    status = main()
    print("FSDP2 with", AcceleratorState().fsdp_plugin.mixed_precision_policy)
    end_process(status)
