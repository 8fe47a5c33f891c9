"""The frame of all commands: settings as options, examples in the help, the log.

Options stand beside the function that gets them. It imports nothing that is heavy, since the help
of all commands does so too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hda_fsspec.cli.messages import as_command_says, options_of
from hda_fsspec.cli.terminal import echo_error

if TYPE_CHECKING:
    from hda_fsspec.client import Client
    from hda_fsspec.fs.filesystem import HDAFileSystem
    from hda_fsspec.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

#: How commands end.
EXIT_CODES = {
    0: "done",
    1: "failed, or a check found a fault, or the answer was no",
    2: "misuse: the words make no command",
    130: "interrupted",
    141: "whoever read the output has stopped reading",
}


@dataclasses.dataclass
class Options:
    """The options that every command has, before and after its name.

    Attributes
    ----------
    given : dict of str
        The settings that were given as options.
    is_debug : bool
        Whether to show the log, and the traceback of an error.
    """

    given: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_debug: bool = False

    @property
    def settings(self) -> Settings:
        """All settings; raises ConfigurationError for one that cannot be used."""
        from hda_fsspec.settings import Settings

        return Settings.resolve(**self.given)

    @property
    def filesystem(self) -> HDAFileSystem:
        """The filesystem with the settings of the options."""
        from hda_fsspec.fs.filesystem import HDAFileSystem

        return HDAFileSystem(**self.given)

    @property
    def client(self) -> Client:
        """The client of these settings, which the filesystem shares."""
        from hda_fsspec.client import get_client

        return get_client(self.settings)


class _SettingOption(click.Option):
    """An option of all commands, which stands in a section of its own."""


def settings_options(function: F) -> F:
    """Give a command the options that all have."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        options = ctx.ensure_object(Options)
        if not value and not isinstance(value, str):
            return  # not given here, perhaps before the name of the command
        if param.name == "debug":
            options.is_debug = True
        else:
            options.given[str(param.name)] = value

    def add(*names: str, **more: Any) -> None:
        click.option(*names, cls=_SettingOption, expose_value=False, callback=keep, **more)(
            function
        )

    # Each one is put in front of those before.
    add("--debug", is_flag=True, help="show the log, and the traceback of an error")
    add("--offline", is_flag=True, help="never touch the network")
    add("--cache-dir", metavar="DIR", help="the cache folder")
    add("--user", metavar="NAME", help="user name; the password is never an option")
    add("--endpoint-url", metavar="URL", help="address of the broker")
    return function


class _Explained(click.Command):
    """A command whose help has sections of its own; lines of ``paragraphs`` stand as they are."""

    def __init__(self, *args: Any, paragraphs: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._paragraphs = paragraphs

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those that all commands have apart."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Settings": []}
        for param in self.get_params(ctx):
            # The usage names the words, and the text above says what they are.
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                is_common = isinstance(param, _SettingOption)
                sections["Settings" if is_common else "Options"].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the lines that stand as they are."""
        formatter.write_paragraph()
        for line in self._paragraphs:
            formatter.write(f"{line}\n")


class Command(_Explained):
    """A command that may show the log while it runs."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        is_debug = ctx.ensure_object(Options).is_debug
        options = options_of(self)
        with _warnings_as_it_says(options), _log_on_stderr(options, is_debug=is_debug):
            return super().invoke(ctx)


class Group(_Explained, click.Group):
    """A command that has commands of its own."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


class LazyGroup(Group):
    """A group whose commands are loaded when they are needed.

    Parameters
    ----------
    commands_of : mapping
        The names of its commands to ``module:attribute`` of this package.
    """

    def __init__(self, *args: Any, commands_of: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_of = commands_of

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the names of all commands, those that are met first in front."""
        return list(self._commands_of)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        cmd_name: str,
    ) -> click.Command | None:
        """Load a command; None if there is none of that name."""
        if cmd_name not in self._commands_of:
            return None
        module, _, attribute = self._commands_of[cmd_name].partition(":")
        found: click.Command = getattr(
            importlib.import_module(f"hda_fsspec.cli.{module}"), attribute
        )
        return found


def command(
    *examples: str, group: click.Group | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command, which gets :class:`Options` first.

    Parameters
    ----------
    *examples : str
        Lines for its help.
    group : click.Group, optional
        What it is a command of.
    name : str, optional
        Its name, if it is not that of the function.
    """

    def make(function: Callable[..., Any]) -> click.Command:
        made: click.Command = click.command(
            name or function.__name__.rstrip("_"), cls=Command, paragraphs=_told(examples)
        )(settings_options(click.pass_obj(function)))
        if group is not None:
            group.add_command(made)
        return made

    return make


def command_group(*examples: str) -> Callable[[Callable[[], None]], click.Group]:
    """Make a function, of which the help is taken, a command that has commands of its own."""

    def make(function: Callable[[], None]) -> click.Group:
        made: click.Group = click.group(cls=Group, paragraphs=_told(examples))(
            settings_options(function)
        )
        return made

    return make


def json_option(function: F) -> F:
    """Give a command the option that has it print JSON."""
    return click.option("--json", "is_json", is_flag=True, help="as JSON, for programs")(function)


def _told(examples: Sequence[str]) -> list[str]:
    title = "Example:" if len(examples) == 1 else "Examples:"
    return [title, *(f"  {line}" for line in examples)]


def _warn(text: str, options: Collection[str]) -> None:
    first, *more = as_command_says(text, options).split("\n")
    echo_error(f"hda-fsspec: warning: {first}", *more)


@contextlib.contextmanager
def _warnings_as_it_says(options: Collection[str]) -> Iterator[None]:
    """Show warnings in the words of a command, and not the line of Python that they come from."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            _warn(str(message), options)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class _AsItSays(logging.Handler):
    """Shows what is logged as a warning as one of a command."""

    def __init__(self, options: Collection[str]) -> None:
        super().__init__(logging.WARNING)
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        """Show it; it may be a thread of a download that logs, which goes on where it cannot."""
        with contextlib.suppress(OSError, ValueError):
            _warn(self.format(record), self._options)


@contextlib.contextmanager
def _log_on_stderr(options: Collection[str], *, is_debug: bool) -> Iterator[None]:
    """Show the log; without debug only warnings, in the words of a command."""
    logger = logging.getLogger("hda_fsspec")
    handler = logging.StreamHandler() if is_debug else _AsItSays(options)
    before = logger.level
    if is_debug:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
