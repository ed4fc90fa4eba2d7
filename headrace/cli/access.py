"""`headrace key`: API keys for those who use the system. Only hashes are kept; a key is shown once."""

from typing import Annotated, cast

import typer

from headrace.cli.common import Json
from headrace.cli.home import Home
from headrace.cli.output import Output, guarded
from headrace.errors import Unusable

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)


@keys_app.command()
@guarded
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[
        list[str] | None, typer.Option("--role", help="producer, reader, operator or admin; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown once. Default role: producer."""
    from headrace import keys

    home, output = Home.from_environment(), Output(as_json)
    roles = role or ["producer"]
    unknown = [one for one in roles if one not in keys.ROLES]
    if unknown:
        raise Unusable(f"no role is called {', '.join(unknown)}; there are {', '.join(keys.ROLES)}")
    secret = keys.create(home.keys_file, name, *(cast(keys.Role, one) for one in roles))
    output.answer({"name": name, "roles": roles, "key": secret})
    output.say(f"Key of {name} ({', '.join(roles)}), shown once:")
    if not as_json:
        typer.echo(secret)
    output.next("Send it as: Authorization: Bearer KEY")


@keys_app.command("list")
@guarded
def list_keys(as_json: Json = False) -> None:
    """List the keys: names and roles, never the keys themselves."""
    from headrace import keys

    home, output = Home.from_environment(), Output(as_json)
    stored = keys.stored(home.keys_file)
    output.answer(
        {"keys": [{"name": key.name, "roles": list(key.roles), "created": key.created} for key in stored]}
    )
    if stored:
        output.table(
            ("name", "roles", "created"), [(key.name, ", ".join(key.roles), key.created) for key in stored]
        )
    else:
        output.next("No key yet: headrace up makes the first, headrace key create NAME --role ROLE more")
