"""`hf-videolang`: a thin face over the rooms. A command's module is imported only when the command is given."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper

from hf_videolang.console import explain_interrupt, reader_left

# Each module offers `add_arguments(parser)` and `main(arguments) -> exit code`; its docstring is the description.
COMMANDS = {
    "convert": ("hf_videolang.commands.convert", "make a model folder from an original checkpoint"),
    "data check": ("hf_videolang.commands.data_check", "find missing, broken and duplicated videos and captions"),
    "data prepare": ("hf_videolang.commands.data_prepare", "re-encode videos at a lower rate and size"),
    "data shard": ("hf_videolang.commands.data_shard", "pack a data set as WebDataset tar shards"),
    "data caption-frames": ("hf_videolang.commands.data_caption_frames", "caption the middle frame of every video"),
    "evaluate": ("hf_videolang.commands.evaluate", "score a model in a benchmark's protocol"),
}


def usage() -> str:
    lines = ["usage: hf-videolang <command> [options]", "", "commands:"]
    lines += [f"  {name:<21}{summary}" for name, (_, summary) in COMMANDS.items()]
    lines += ["", "hf-videolang <command> --help shows a command's options; --version the version."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 well, 1 the command found a problem, 2 wrong usage, 141 (as if ended by SIGPIPE) when the
    reader of the output left first, as `head` does.
    """
    explain_interrupt("hf-videolang: stopped by Ctrl-C.")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as of stderr: names of files need not be Unicode
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # or a closed pipe would only show when Python ends
    except BrokenPipeError:
        return reader_left()


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from hf_videolang import __version__

        print(f"hf_videolang {__version__}")
        return 0
    for name, (module_name, _) in COMMANDS.items():
        words = name.split()
        if arguments[: len(words)] == words:
            module = import_module(module_name)
            parser = ArgumentParser(
                prog=f"hf-videolang {name}",
                description=module.__doc__,
                formatter_class=RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
            module.add_arguments(parser)
            return module.main(parser.parse_args(arguments[len(words) :]))
    given = " ".join(word for word in arguments[:2] if not word.startswith("-"))
    close = [name for name in COMMANDS if name.startswith(f"{given} ")]
    close = close or get_close_matches(given, COMMANDS, n=1, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    print(f"hf-videolang: unknown command {given or arguments[0]!r}.{hint}\n\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
