"""Programs at a terminal that is none: what a person sees of them, in a window of so many columns."""

from __future__ import annotations

import os
import pty
import re
import signal
import termios
import unicodedata

from support import programs

ALL = ("stdin", "stdout", "stderr")


def at_a_terminal(command, columns=80, *, answer="", interrupt="", streams=ALL, **settings):
    """Run a program with these streams at a terminal; return its exit code and what it showed.

    The answer is typed where it asks whether to go on; it is interrupted once it has shown what ``interrupt`` says.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    process = programs.Program(list(map(str, command)), **dict.fromkeys(streams, theirs), **settings)
    os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
        if answer and b"Go on?" in shown:
            os.write(ours, f"{answer}\n".encode())
            answer = ""
        if interrupt and interrupt.encode() in shown:
            process.send_signal(signal.SIGINT)
            interrupt = ""
    os.close(ours)
    return process.wait(60), shown.decode()


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other end is closed
        return b""


def too_wide(shown, columns):
    """Return the lines that are wider than a window, as a terminal counts."""
    return [line for line in re.split(r"[\r\n]+", shown) if sum(map(_columns, line)) > columns]


def _columns(letter):
    return 0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
