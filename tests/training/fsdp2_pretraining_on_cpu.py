"""run_pretraining under fsdp2.yaml without a GPU."""

import tests.training.fsdp2_on_cpu  # noqa: F401  makes the CPU pretend to be a GPU

if __name__ == "__main__":
    from hf_videolang.training.processes import end_process
    from hf_videolang.training.run_pretraining import main

    end_process(main())
