"""Training: trainers, their arguments, recipes, and the commands `run_<task>` for `accelerate launch -m`."""

import sys

from hf_videolang.console import explain_interrupt

if sys.argv[0] == "-m":  # Python is about to start run_<task>, whose imports take seconds
    explain_interrupt("stopped by Ctrl-C.")
