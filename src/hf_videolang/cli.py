"""`hf-videolang`: runs one command. A command's module is imported only when it is needed."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from itertools import takewhile

from hf_videolang.console import explain_interrupt, print_error, reader_left
from hf_videolang.training.processes import end_with_launcher

# Command → (module, summary). A module has `add_arguments(parser)` and `main(args) -> exit code`; its docstring is the
# description of the command.
COMMANDS = {
    "ask": ("hf_videolang.commands.ask", "ask a question about a video"),
    "caption": ("hf_videolang.commands.caption", "write captions of the segments of a video"),
    "convert": ("hf_videolang.commands.convert", "make a model folder from an original checkpoint"),
    "data check": ("hf_videolang.commands.data_check", "find missing, broken and duplicated videos and captions"),
    "data prepare": ("hf_videolang.commands.data_prepare", "re-encode videos at a lower rate and size"),
    "data shard": ("hf_videolang.commands.data_shard", "pack a dataset as WebDataset tar shards"),
    "data caption-frames": ("hf_videolang.commands.data_caption_frames", "caption the middle frame of every video"),
    "data import-features": ("hf_videolang.commands.data_import_features", "make a feature store of others' features"),
    "data import-value-text": ("hf_videolang.commands.data_import_value_text", "write VALUE's texts as JSON lines"),
    "extract": ("hf_videolang.commands.extract", "extract features of videos once, to be read in their place"),
    "evaluate": ("hf_videolang.commands.evaluate", "score a model in a benchmark's protocol"),
    "init-clip-enhanced": (
        "hf_videolang.commands.init_clip_enhanced",
        "make the model from which CLIP-Enhanced is trained",
    ),
    "moments": ("hf_videolang.commands.moments", "find the moments of subtitled videos that a sentence means"),
    "segment": ("hf_videolang.commands.segment", "say which seconds of a video show what"),
}


def usage(group: str = "") -> str:
    """The list of commands; with a group, such as "data", of the commands that begin with that word."""
    names = [name for name in COMMANDS if name.startswith(group)]
    width = max(map(len, names)) + 2
    lines = [f"usage: {f'hf-videolang {group}'.rstrip()} <command> [options]", "", "commands:"]
    lines += [f"  {name:<{width}}{COMMANDS[name][1]}" for name in names]
    lines += ["", "hf-videolang <command> --help shows the options of a command; --version the version."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """
    Run the command that `arguments` (by default, the words after `hf-videolang`) name.

    Returns the exit code: 0 success, 1 the command found a problem, 2 wrong usage, 141 the reader of the output, such
    as `head`, ended first.
    """
    end_with_launcher()
    explain_interrupt("hf-videolang: stopped by Ctrl-C.")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be Unicode
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # finds a closed pipe here, not at the end of Python
    except BrokenPipeError:
        return reader_left()
    except (ValueError, OSError, ImportError) as error:  # data, files or an installation that cannot be used
        print_error(error)
        return 2


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from hf_videolang import __version__

        print(f"hf_videolang {__version__}")
        return 0
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    for name in (" ".join(words[:2]), " ".join(words[:1])):
        if name in COMMANDS:
            module = import_module(COMMANDS[name][0])
            parser = ArgumentParser(
                prog=f"hf-videolang {name}",
                description=module.__doc__,
                formatter_class=RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
            module.add_arguments(parser)
            return module.main(parser.parse_args(arguments[len(name.split()) :]))
    group = " ".join(words)
    if not group or any(name.startswith(f"{group} ") for name in COMMANDS):
        asked = arguments[len(words) :][:1] in (["-h"], ["--help"])
        print(usage(group))
        return 0 if asked else 2
    given = " ".join(words[:2])
    close = get_close_matches(given, COMMANDS, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    print_error(f"unknown command {given!r}.{hint}\n\n{usage()}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
