"""Hooks of schemathesis for the API of linkbal."""

import schemathesis


@schemathesis.serializer("application/toml")
def as_text(context, value):
    """Sends a configuration as it is: it is a text."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Asks for no answer without an end."""
    if isinstance(case.query, dict):
        case.query.pop("follow", None)
