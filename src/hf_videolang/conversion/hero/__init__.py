"""
HERO       hero-tv-ht100.pt, and model_step_N.pt or restore.pt of a run on TVR, TVQA, VIOLIN or all tasks, with the
           run's model configuration as --config; and with --from-roberta the RoBERTa from which training starts,
           pretrain-tv-init.bin or a folder of roberta-base
"""

from hf_videolang.conversion.hero.conversion import ALSO_HARMLESS, EXPECTED, NAME, OPTIONS, convert, recognises

__all__ = ["ALSO_HARMLESS", "EXPECTED", "NAME", "OPTIONS", "convert", "recognises"]
