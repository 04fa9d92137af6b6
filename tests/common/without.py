"""
Run a script as on a machine without some packages: `python -I without.py av,datasets script.py [argument …]`.

The packages are hidden from every finder, so `find_spec` answers `None` and their import fails.
"""

import runpy
import sys


class HidingFinder:
    """A finder that does not know the hidden packages."""

    def __init__(self, finder, hidden: set[str]):
        self.finder, self.hidden = finder, hidden

    def __getattr__(self, name: str):
        return getattr(self.finder, name)

    def find_spec(self, name: str, path=None, target=None):
        return None if name.partition(".")[0] in self.hidden else self.finder.find_spec(name, path, target)


if __name__ == "__main__":
    _, hidden, script, *arguments = sys.argv
    sys.meta_path[:] = [HidingFinder(finder, set(hidden.split(","))) for finder in sys.meta_path]
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
