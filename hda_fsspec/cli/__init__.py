"""The command line: what the filesystem and the cache do, said in words and numbers.

It decides nothing about products. A command stands in the module of its name, which is loaded when
the command runs or its help is shown, and which loads what is heavy when it runs.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Sequence

import click

from hda_fsspec._version import __version__
from hda_fsspec.cli.commands import EXIT_CODES, LazyGroup, Options, settings_options
from hda_fsspec.cli.messages import as_command_says, options_of
from hda_fsspec.cli.terminal import echo_error, echo_error_block
from hda_fsspec.errors import HDAError
from hda_fsspec.printable import printable

__all__ = ["main"]

_PROGRAM = "hda-fsspec"
_FAILED = 1
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_ORDERING = {"get", "open"}
_PIPE_CLOSED = 141  # 128 + SIGPIPE


#: What other programs call what the commands do.
_OTHER_NAMES = {
    "describe": "info",
    "dir": "ls",
    "download": "get",
    "fetch": "get",
    "find": "datasets",
    "list": "ls",
    "queue": "orders",
    "search": "datasets",
    "show": "info",
    "status": "orders",
}


class _Program(LazyGroup):
    """All commands; how one ends is an exit code, and never a traceback that nobody asked for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name, or say which one may be meant."""
        name = args[0]
        is_word = not name.startswith("-") and not ctx.resilient_parsing
        if is_word and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name.lower(), self.list_commands(ctx), n=1)
            meant = _OTHER_NAMES.get(name.lower()) or next(iter(near), None)
            hint = "" if meant is None else f" Did you mean {_PROGRAM} {meant}?"
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> int:
        """Run the command that was asked for, and return its exit code."""
        try:
            code = self._run(ctx)
            # Of a command that failed, too: some of what it wanted may be here.
            return self._told(ctx, _flush_shared_caches) or code
        except KeyboardInterrupt:
            echo_error("", f"{_PROGRAM}: interrupted")
            if ctx.invoked_subcommand in _ORDERING:
                echo_error(
                    f"{_PROGRAM}: orders that went out are prepared all the same: {_PROGRAM} orders"
                    " shows them, and the same command takes them up"
                )
            return _INTERRUPTED

    def _run(self, ctx: click.Context) -> int:
        """Run the command, and return its exit code."""
        try:
            return self._told(ctx, lambda: super(_Program, self).invoke(ctx))
        except BrokenPipeError:
            _close_stdout()
            return _PIPE_CLOSED

    def _told(self, ctx: click.Context, work: Callable[[], int | None]) -> int:
        """Do something and return its exit code, or say why it failed."""
        options = ctx.ensure_object(Options)
        try:
            code = work()
            if sys.stdout is not None:
                sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as err:
            if options.is_debug:
                raise
            _leave_stdout()
            first, *more = _explain(err, self._options_now(ctx))
            echo_error(f"{_PROGRAM}: error: {first}", *more)
            return _FAILED
        return code or 0

    def _options_now(self, ctx: click.Context) -> set[str]:
        """Return the options of the command that runs."""
        name = ctx.invoked_subcommand
        return options_of(None if name is None else self.get_command(ctx, name))


@click.group(
    cls=_Program,
    commands_of={
        "datasets": "datasets:datasets",
        "path": "path:path",
        "ls": "listing:ls",
        "info": "listing:info",
        "plan": "plan:plan",
        "get": "get:get",
        "orders": "orders:orders",
        "open": "open:open_",
        "terms": "terms:terms",
        "cache": "cache:cache",
        "login": "login:login",
        "doctor": "doctor:doctor",
        "emulator": "emulator:emulator",
        "demo": "demo:demo",
    },
    paragraphs=[
        "Examples:",
        "  hda-fsspec login                                 once, to begin with",
        "  hda-fsspec datasets sea surface temperature      find a data set",
        "  hda-fsspec info hda://DATASET                    what it can be asked",
        "  hda-fsspec ls hda://DATASET/startdate=2024-05-01/enddate=2024-05-02",
        "  hda-fsspec plan hda://DATASET/startdate=2024-05-01/enddate=2024-05-02",
        "  hda-fsspec get --last 10 hda://DATASET/startdate=2024-05-01 data/",
        "  hda-fsspec orders                                why it takes so long",
        "",
        "In the place of DATASET stands an id such as EO:EUM:DAT:SENTINEL-3:OL_2_WFR___.",
        "",
        "Exit codes:",
        *(f"  {code:<5}{meaning}" for code, meaning in EXIT_CODES.items()),
        "",
        "Completion of commands and options, for the rc file of your shell:",
        f'  bash   eval "$(_HDA_FSSPEC_COMPLETE=bash_source {_PROGRAM})"',
        f'  zsh    eval "$(_HDA_FSSPEC_COMPLETE=zsh_source {_PROGRAM})"',
        f"  fish   _HDA_FSSPEC_COMPLETE=fish_source {_PROGRAM} | source",
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@settings_options
@click.version_option(__version__, message=f"{_PROGRAM} %(version)s")
def _program() -> None:
    """Copernicus data of WEkEO as files, in which a query is a path.

    User and password come from HDA_USER and HDA_PASSWORD, or from ~/.hdarc, which
    "hda-fsspec login" writes.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; None for those of this process.

    Raises
    ------
    SystemExit
        The words make no command; its code is 2.
    """
    words = None if arguments is None else list(arguments)
    try:
        code: int | None = _program.main(words, prog_name=_PROGRAM, standalone_mode=False)
    except click.ClickException as err:
        _tell_misuse(err)
        raise SystemExit(err.exit_code) from None
    return code or 0


def _flush_shared_caches() -> None:
    """Wait until what was fetched is in the shared cache, if there is one: this process ends."""
    module = sys.modules.get("hda_fsspec.client")
    for client in module.open_clients() if module else ():
        client.flush_shared_cache()


def _tell_misuse(err: click.ClickException) -> None:
    """Say what is wrong with the words that were given; they may hold anything."""
    ctx = getattr(err, "ctx", None)
    if isinstance(err, click.exceptions.NoArgsIsHelpError):
        echo_error_block(err.format_message())
        return
    if ctx is not None:
        echo_error_block(ctx.get_usage())
        echo_error(f"'{ctx.command_path} --help' shows what there is.")
    echo_error(f"{_PROGRAM}: error: {err.format_message()}")


def _explain(err: Exception, options: set[str]) -> list[str]:
    """Return what an error says to who has such options, in lines."""
    text = str(err) or type(err).__name__
    if isinstance(err, OSError) and not isinstance(err, HDAError) and err.strerror:
        # Not str(err), which begins with a number in brackets.
        # A name may hold line breaks, and is one word all the same.
        of = "" if err.filename is None else f": {printable(err.filename)}"
        text = f"{as_command_says(err.strerror, options)}{of}"
    elif isinstance(err, (HDAError, OSError)):
        text = as_command_says(text, options)
    else:
        text = f"{type(err).__name__}: {text} (--debug shows where it comes from)"
    first, *more = text.split("\n")
    if not isinstance(err, HDAError):
        # Not ours: whatever it quotes, no line of it looks like one of this program.
        more = [f"  {line}" for line in more]
    notes = as_command_says("\n".join(getattr(err, "__notes__", [])), options)
    return [first, *more, *(notes.split("\n") if notes else [])]


def _leave_stdout() -> None:
    """Write what is still to be written to standard output, or drop it if that is what failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _close_stdout()


def _close_stdout() -> None:
    # The interpreter flushes standard output when it ends, and would complain again.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
