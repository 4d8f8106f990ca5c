"""The command line's groups of verbs."""

from __future__ import annotations

import click


class VerbGroup(click.Group):
    """A group of verbs that suggests similar names for an unknown verb."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the verb's name, its command and the other arguments.

        Raises:
            click.UsageError: There is no such verb.
        """
        name = args[0]
        if name[:1].isalnum() and self.get_command(ctx, name) is None:
            raise click.UsageError(f"There is no verb {name!r}.{self._suggestion(ctx, name)}", ctx)
        return super().resolve_command(ctx, args)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        root = ctx.find_root()
        elsewhere = {"help": f"{ctx.command_path} --help", "ask": f"{root.command_path} post --ask"}
        if name in elsewhere:
            return f" Did you mean {elsewhere[name]!r}?"
        if isinstance(root.command, click.Group) and name in root.command.list_commands(root):
            return f" Did you mean '{root.command_path} {name}'?"
        from difflib import get_close_matches  # imported only when needed, as --help must be fast

        similar = get_close_matches(name.lower(), self.list_commands(ctx), n=1)
        return f" Did you mean {similar[0]!r}?" if similar else ""


class ListByDefault(VerbGroup):
    """A group of verbs in which `list` is the default."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Returns those that remain for the verb.

        Inserts `list` if they are empty or begin with an option, unless they ask for help.
        """
        if not {"-h", "--help"} & set(args) and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)
