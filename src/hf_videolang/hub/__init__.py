"""
Sharing a model: its card, results in the card, the push.

The code for `trust_remote_code=True` is written by every `save_pretrained`: `hf_videolang.models.shared.remote_code`.
"""
