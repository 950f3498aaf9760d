"""Python programs in processes of their own that start at once: each is forked from a nursery.

That process has loaded what they import, and has done once what takes longer the first time. A program has its own
arguments, environment, folder, streams and signals, and ends as the interpreter ends; what that reads when it
starts (options, ``PYTHON...`` variables, where modules lie) is the nursery's. Tests of that start the real thing.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types

PRELOADED = """
enrichkit.cli enrichkit.runs.runner enrichkit.engine.driver enrichkit.reporting.tablefiles enrichkit.progress.screens
enrichkit.gemini.client enrichkit.__main__ google.genai pyarrow.parquet pandas genai_prices tqdm apprise
""".split()
BECOME_REAPER = 36
"""A request to `prctl`: the children of a process that ends become ours, so that a program can be waited for."""
LONGEST_REQUEST = 200_000


class Program(subprocess.Popen):
    """A `subprocess.Popen` of ``python -c``, of a script or of an installed command, forked from the nursery."""

    def _execute_child(self, *given):
        wanted = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments
        pipes = [wanted[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        request = {
            "arguments": list(map(os.fspath, wanted["args"])),
            "folder": os.fspath(wanted["cwd"] or os.getcwd()),
            "environment": dict(os.environ if wanted["env"] is None else wanted["env"]),
            "session": wanted["start_new_session"],
        }
        streams = [number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = _nursery().fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)


def run(arguments, *, input=None, timeout=None, check=False, capture_output=False, **settings):  # noqa: A002 - its name
    """Run a program to its end, as `subprocess.run` does."""
    if input is not None:
        settings["stdin"] = subprocess.PIPE
    if capture_output:
        settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Program(arguments, **settings) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except subprocess.TimeoutExpired as late:
            process.kill()
            process.wait()
            raise late
        except BaseException:
            process.kill()
            raise
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments, stdout, stderr)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


class Nursery:
    """The process that programs are forked from, and the line to it."""

    def __init__(self):
        ctypes.CDLL(None).prctl(BECOME_REAPER, 1, 0, 0, 0)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            command = [sys.executable, "-P", __file__, str(theirs.fileno())]
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a process that forks had better have no threads
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )
        atexit.register(self.close)

    def fork(self, request, streams):
        """Have a program forked with these streams; return the id of its process."""
        with self._lock:
            socket.send_fds(self._line, [json.dumps(request).encode()], streams)
            return int(self._line.recv(100))

    def close(self):
        """End the process; the programs go on."""
        self._line.close()
        self._process.wait()


@functools.cache
def _nursery():
    return Nursery()


def warm_up():
    """Do once what takes longer the first time: a run over HTTP, its report, an address for a notification."""
    import apprise
    import pandas as pd

    import enrichkit

    apprise.Apprise.instantiate("json://localhost")
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame({"fund.title": ["Acme"]})
        enrichkit.run(table, out=f"{folder}/out", model="simulator", progress=False, notify=[])
        str(enrichkit.report(f"{folder}/out"))


def serve(line):
    """Fork programs until the other end of the line is closed; return, in a program's process, what it is to do."""
    while True:
        message, streams, _, _ = socket.recv_fds(line, LONGEST_REQUEST, 3)
        if not message:
            sys.exit()
        read, write = os.pipe()
        between = os.fork()  # it ends at once, which hands the program over to who has asked for it
        if between == 0:
            if (program := os.fork()) == 0:
                os.close(read)
                os.close(write)
                line.close()
                return json.loads(message), streams
            os.write(write, str(program).encode())
            os._exit(0)
        os.waitpid(between, 0)
        line.send(os.read(read, 100))
        for number in (read, write, *streams):
            os.close(number)


def become(request, streams):
    """Make this process the one that was asked for."""
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)
    os.chdir(request["folder"])
    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def do(arguments):
    """Do what the arguments say; the process ends after it."""
    options = arguments[1:]
    if not os.path.basename(arguments[0]).startswith("python"):
        from enrichkit.__main__ import main

        sys.argv = arguments
        sys.exit(main())
    while options[0] in ("-P", "-W"):
        del options[: 1 + (options[0] == "-W")]
    if options[0] != "-c":
        sys.argv = options
        runpy.run_path(options[0], run_name="__main__")
        return
    sys.argv = ["-c", *options[2:]]
    sys.path.insert(0, "")
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(options[1], "<string>", "exec"), vars(program))


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    warm_up()
    gc.collect()
    gc.freeze()  # else each program would touch, and so copy, all that is there
    with socket.socket(fileno=int(sys.argv[1])) as line:
        wanted = serve(line)
    become(*wanted)
    do(wanted[0]["arguments"])
