"""Which stores there are: the one place that knows the schemes of URIs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tokenfocus_ray.errors import ConfigError, did_you_mean
from tokenfocus_ray.storage.uris import QUERY, public, split_uri


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store that fsspec reaches.

    Attributes:
        package: What ``pip install`` takes so that fsspec does.
        settings: Where its keys and addresses come from, for messages.
        keeps_jobs: Whether a file there is seen whole or not at all, and a listing shows what was
            written before it. A job that is killed and goes on needs both.
    """

    package: str
    settings: str
    keeps_jobs: bool = False


_GOOGLE = Kind(
    "gcsfs", "GOOGLE_APPLICATION_CREDENTIALS, or the machine's own account", keeps_jobs=True
)
_AZURE = Kind(
    "adlfs",
    "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or "
    "AZURE_STORAGE_CONNECTION_STRING",
    keeps_jobs=True,
)
#: Scheme -> what fsspec needs for it. Local files and S3 are Arrow's own.
FSSPEC = {
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "hdfs": Kind("pyarrow", "HADOOP_HOME, JAVA_HOME and CLASSPATH"),
    "webhdfs": Kind("requests", "the host and port in the URI"),
    "hf": Kind("huggingface_hub", "HF_TOKEN"),
    "oci": Kind("ocifs", "OCI's configuration file"),
    "oss": Kind("ossfs", "OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_ENDPOINT"),
}
REMOTE = ("s3", *FSSPEC)
_WEB = ("http", "https", "ftp", "data")
#: For messages: what can be given where a file or folder is wanted.
EXAMPLES = "a local path, file:///path, or a place in a store, such as s3://bucket/prefix"


def is_remote(uri: str) -> bool:
    """Whether a URI names a place in one of the stores.

    >>> is_remote("s3://bucket/a"), is_remote("a/b"), is_remote("https://example.org/a")
    (True, False, False)
    """
    return split_uri(uri)[0] in REMOTE


def check_remote(uri: str) -> None:
    """Refuses a URI of a store that names no place in it, or holds what may be a secret.

    Raises:
        ConfigError: no bucket; keys or settings inside the URI.
    """
    scheme, path = split_uri(uri)
    host = path.partition("/")[0]
    # of others than S3, a host may have a port, and Azure's a container before its "@"
    odd = r"[:@]" if scheme == "s3" else r":.*@"
    if QUERY.search(path) or not host or re.search(odd, host):
        raise ConfigError(
            f"{public(uri)!r} is not {scheme}://bucket/prefix; settings go into the environment: "
            f"{settings_of(scheme)}"
        )


def settings_of(scheme: str) -> str:
    """The variables that say how a store is reached."""
    if scheme == "s3":
        return (
            "AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_SESSION_TOKEN, TOKENFOCUS_S3_ANONYMOUS"
        )
    return FSSPEC[scheme].settings


def unknown_scheme(uri: str) -> ConfigError:
    """What to raise for a URI of no known scheme."""
    scheme, _ = split_uri(uri)
    known = ["file", *REMOTE]
    # https is no misspelt hdfs
    hint = f"Known: {', '.join(known)}." if scheme in _WEB else did_you_mean(scheme, known)
    return ConfigError(f"{public(uri)!r} has the scheme {scheme!r}. {hint} Give {EXAMPLES}")
