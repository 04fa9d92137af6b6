"""
VideoCLIP  checkpoint_best.pt of VideoCLIP (pre-trained, fine-tuned, or with COIN's head) and of VLM, whose encoder
           becomes a VideoCLIP with one encoder; --s3d puts S3D inside. And BERT (a Hub folder or its
           model.safetensors), which becomes an untrained VideoCLIP
"""

from hf_videolang.conversion.videoclip.conversion import ALSO_HARMLESS, EXPECTED, NAME, OPTIONS, convert, recognises

__all__ = ["ALSO_HARMLESS", "EXPECTED", "NAME", "OPTIONS", "convert", "recognises"]
