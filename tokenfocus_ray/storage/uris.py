"""URIs: taken apart, and as messages may show them."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(data|file):")


QUERY = re.compile(r"\?\w+=")  # a "?" alone may stand in a key, as in a prompt


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """Scheme and path of a URI.

    >>> split_uri("a b.png"), split_uri("file:///a%20b.png"), split_uri("s3://bucket/key")
    (('', 'a b.png'), ('file', '/a b.png'), ('s3', 'bucket/key'))

    Args:
        uri: A local path, or anything with a scheme.

    Returns:
        The scheme in lower case, empty for a local path, and what follows it. Of ``file`` the path
        is decoded, and absolute unless the URI names another machine.
    """
    text = os.fspath(uri)
    match = _SCHEME.match(text)
    if match is None:
        return "", text
    scheme, rest = (match[1] or match[2]).lower(), text[match.end() :]
    return scheme, unquote(rest.removeprefix("localhost")) if scheme == "file" else rest


def public(uri: str | os.PathLike[str]) -> str:
    """The URI for messages, without what may be a secret.

    >>> public("s3://key:secret@bucket/a"), public("gs://bucket/a?token=secret"), public("a?b=c")
    ('s3://***', 'gs://bucket/a?***', 'a?b=c')
    """
    scheme, rest = split_uri(uri)
    if scheme in ("", "file", "data"):
        return os.fspath(uri)
    host, _, path = rest.partition("/")
    if scheme == "s3" and re.search(r"[:@]", host):
        return "s3://***"
    user, at, server = host.rpartition("@")
    if at and ":" in user:
        rest = f"***@{server}/{path}"
    query = QUERY.search(rest)
    if query is None:
        return f"{scheme}://{rest}" if at and ":" in user else os.fspath(uri)
    return f"{scheme}://{rest[: query.start()]}?***"
