"""
CLIP-ViP   pretrain_clipvip_base_{16,32}.pt, fine-tuned model_best.pt and model_step_<n>.pt, restore.pt; the
           comparators of its ablation: mean-pooling wrappers, CLIP4Clip's pytorch_model.bin.<epoch> (seqTransf,
           meanP); and CLIP itself (OpenAI's ViT-B-{16,32}.pt, a Hub folder or its model.safetensors), which becomes
           an untrained CLIP-ViP
"""

from hf_videolang.conversion.clip_vip.conversion import ALSO_HARMLESS, EXPECTED, NAME, OPTIONS, convert, recognises

__all__ = ["ALSO_HARMLESS", "EXPECTED", "NAME", "OPTIONS", "convert", "recognises"]
