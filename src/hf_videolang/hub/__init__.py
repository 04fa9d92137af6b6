"""
Loading and sharing models: cards, results in the card, push.

`save_pretrained` itself writes the code for `trust_remote_code=True`, see `hf_videolang.models.shared.remote_code`.
"""
