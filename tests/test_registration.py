"""`import hf_videolang` registers everything, in any order of imports, cheaply, with optional packages absent."""

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = Path(__file__).parent / "common" / "without.py"
CHECK = """
import hf_videolang
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING

for model_type in ("clip_vip", "clip_vip_text_model", "clip_vip_vision_model"):
    config = AutoConfig.for_model(model_type)
    assert config.model_type == model_type
    assert AutoModel._model_mapping[type(config)].config_class is type(config)
assert PROCESSOR_MAPPING[hf_videolang.CLIPViPConfig] is hf_videolang.CLIPViPProcessor
registered = VIDEO_PROCESSOR_MAPPING[hf_videolang.CLIPViPConfig]  # from transformers 5.23 on, one for each backend
assert hf_videolang.CLIPViPVideoProcessor in (registered.values() if isinstance(registered, dict) else [registered])
for name in hf_videolang.__all__:
    assert getattr(hf_videolang, name), name
"""
BEFORE = [
    "",
    "from transformers import AutoModel, AutoProcessor, AutoVideoProcessor",
    "from hf_videolang.models.clip_vip.modeling_clip_vip import CLIPViPModel",
    "from hf_videolang.models.clip_vip.processing_clip_vip import CLIPViPProcessor",
]


@pytest.mark.parametrize("before", BEFORE, ids=["alone", "auto-first", "model-first", "processor-first"])
def test_every_class_is_registered(before, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(before + CHECK)
    subprocess.run([sys.executable, str(WITHOUT), "datasets,evaluate,av,torchcodec", str(script)], check=True)


def test_import_does_not_import_what_is_slow():
    slow = [
        "transformers.modeling_utils",
        "torchvision",
        "datasets",
        "evaluate",
        "av",
        "torchcodec",
        "accelerate",
    ]
    program = f"import sys, hf_videolang; print([name for name in {slow} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_unknown_name_is_an_attribute_error():
    import hf_videolang

    with pytest.raises(AttributeError, match="ClipVip"):
        hf_videolang.ClipVip  # noqa: B018
    assert set(hf_videolang.__all__) <= set(dir(hf_videolang))
