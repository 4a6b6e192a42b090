"""The command line: one module a command, each with `run(parsed) -> exit code`, and the way from words to one of them.

What belongs here: reading arguments, printing, exit codes (0 done, 1 not done or errors found, 2 wrong usage, 130 interrupted).
What does not belong here: the work itself. Modules of commands are imported when they are called, so that help comes at once.
"""

from __future__ import annotations

import difflib
import errno
import gc
import importlib
import io
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Sequence

from xds import __version__, logs
from xds.cli.arguments import COMMANDS, parse
from xds.config import LOGS, Failure, UsageError

_INTERRUPTED = 128 + 2
_NARROWEST = 60
"""Columns for which help is written on a terminal that has fewer."""
_PIPE_CLOSED = 128 + 13
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why standard output cannot be written, where its reader is no pipe."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. No exception leaves this function: what goes wrong is a sentence on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = f"xds {words[0]}" if words and words[0] in COMMANDS else "xds"
    if sys.stdout is None:  # it was closed by whoever started this
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process runs, as descriptor 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal knows UTF-8
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(name, str(error), 2)
    except Failure as error:
        return _fail(name, str(error), 1)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it ends, and would complain about the pipe then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        if error.errno not in _FULL or error.filename:
            return _fault(name, error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as above
        return _fail(name, f"the output cannot be written: {error.strerror}.", 1)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence instead of a traceback
        return _fault(name, error)


def _dispatch(words: Sequence[str]) -> int:
    command, *rest = words or ["help"]
    if command in ("help", "--help", "-h", "-help"):
        return _show(_command(rest[0]) if rest and not rest[0].startswith("-") else "")
    if command in ("version", "--version", "-version"):
        print(f"xds {__version__}")
        return 0
    parsed = parse(_command(command), rest, os.environ)
    if parsed.settings.help:
        return _show(command)
    if parsed.settings.version:
        print(f"xds {__version__}")
        return 0
    if command in LOGS:
        logs.begin(parsed.settings.log_format, parsed.settings.log_level, sys.stderr)
    for notice in parsed.notices:
        _print(f"xds {command}", notice, logging.WARNING)
    gc.disable()  # modules stay, so that the collector would search them for nothing: a tenth of the time of a short command
    module = importlib.import_module(f"xds.cli.{command}")
    gc.freeze()
    gc.enable()
    code: int = module.run(parsed)
    return code


def _command(word: str) -> str:
    """The word, if it is a command. Raises UsageError where it is none."""
    if word in ("help", "version"):
        return ""
    if word not in COMMANDS:
        near = difflib.get_close_matches(word[:60], COMMANDS, n=1)
        raise UsageError(f"unknown command {word[:60]!r}; {f'did you mean {near[0]}?' if near else '`xds help` lists the commands.'}")
    return word


def _show(command: str) -> int:
    """Print the help of a command, or of all. Imported here, for a command at work needs no manual."""
    from xds.cli.manual import WIDTH, command_help, overview

    width = max(_NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns))
    print(command_help(command, width) if command else overview(width))
    return 0


def _fail(name: str, sentence: str, code: int, fault: Exception | None = None) -> int:
    """Why a command has ended; `fault` is an error of ours, whose traceback is for those who ask."""
    _print(name, sentence, logging.ERROR, fault if os.environ.get("XDS_TRACEBACK") else None)
    return code


def _fault(name: str, error: Exception) -> int:
    """An error of ours as a sentence."""
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return _fail(name, f"internal error: {what}; please report it, with what XDS_TRACEBACK=1 adds.", 1, error)


def _print(name: str, sentence: str, level: int, fault: Exception | None = None) -> None:
    """Print a sentence to standard error. Where the log is JSON, it is a line of the log, so that every line is JSON."""
    if logs.is_json():
        logging.getLogger("xds").log(level, "%s", sentence, exc_info=fault)
        return
    if fault is not None:
        traceback.print_exception(fault)
    print(f"{name}: {sentence}", file=sys.stderr)
