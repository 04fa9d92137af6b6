"""
ClipBERT   clipbert_image_text_pretrained.pt, fine-tuned model_step_<n>.pt of every head, restore.pt; and what its
           pre-training starts from: grid_feat_R-50.pth, or a ResNet-50 of the Hub, together with a BERT (--bert)
"""

from hf_videolang.conversion.clipbert.conversion import ALSO_HARMLESS, EXPECTED, NAME, OPTIONS, convert, recognises

__all__ = ["ALSO_HARMLESS", "EXPECTED", "NAME", "OPTIONS", "convert", "recognises"]
