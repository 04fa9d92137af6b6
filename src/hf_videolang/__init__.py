"""
Published video-language systems as Hugging Face models.

Importing the package makes the Auto classes of transformers know every config, model, processor and video processor.
A public name is loaded when it is first used, so the import takes no time:

```python
from hf_videolang import CLIPViPModel
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import public_names, register_with_auto_classes

if TYPE_CHECKING:  # for type checkers and editors; `registration` finds the same names by itself
    from .models.clip_vip import *
    from .models.clipbert import *
    from .models.hero import *
    from .models.s3d import *
    from .models.slowfast import *
    from .models.videoclip import *

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted([*public_names(), "__version__"])
    if name not in public_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(public_names()[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *public_names()]


register_with_auto_classes()
