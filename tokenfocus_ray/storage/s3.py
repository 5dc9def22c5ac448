"""Amazon S3 and servers that speak like it, through pyarrow.

What is set up by environment variables, as other clients are: ``AWS_ENDPOINT_URL_S3`` or
``AWS_ENDPOINT_URL`` (another server than Amazon's), ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, and
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN`` or the AWS configuration
files. ``TOKENFOCUS_S3_ANONYMOUS=1`` reads public buckets without keys.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Any

from pyarrow import fs

from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.storage.failures import StoreFailedError

#: With pyarrow's own 3, one or two requests in 40 were lost where 15 % failed; with 8, none. All 8
#: take about 40 seconds where the server refuses connections.
MAX_ATTEMPTS = 8
#: Seconds; the AWS SDK's own are 3 and 1, short for a busy server.
REQUEST_TIMEOUT, CONNECT_TIMEOUT = 30, 10
#: The variables that hold the keys, for messages.
KEYS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"

_ENDPOINT = re.compile(r"https?://[^/?#@\s]+(/[^?#@\s]*)?")
_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? .*", re.DOTALL)
#: What differs from one request to the next, or says nothing.
_NOISE = re.compile(r"; Details: .*|\.? \(Request ID: .*|: No response body\.?|\.$", re.DOTALL)
_NAMES_OF_FAILURE = frozenset(
    ("INTERNAL_FAILURE", "NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SERVICE_UNAVAILABLE",
     "SLOW_DOWN", "THROTTLING")
)  # fmt: skip
_REMEDIES = {
    r"NO_SUCH_BUCKET|InvalidBucketName": "make the bucket, or correct its name",
    r"ACCESS_DENIED|SIGNATURE|ACCESS_KEY|SKEWED|Expired": f"check {KEYS}, and what they may do in "
    "the bucket",
}


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What a file system needs beside the keys, which stay in the environment.

    Attributes:
        endpoint: ``http://host:port`` of the server; None for Amazon's.
        region: The bucket's region; None for what the AWS configuration says.
        anonymous: Whether requests go out unsigned.
        attempts: How often a request is tried.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    attempts: int = MAX_ATTEMPTS

    @classmethod
    def from_environment(cls) -> S3Settings:
        """Reads the variables that this module names.

        Raises:
            ConfigError: the endpoint is no ``http://`` or ``https://`` address.
        """
        env, endpoint = os.environ, None
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        if name := next((n for n in names if env.get(n)), None):
            endpoint = env[name].rstrip("/")
            if not _ENDPOINT.fullmatch(endpoint):
                seen = "a URL with credentials" if "@" in endpoint else repr(endpoint)
                raise ConfigError(
                    f"{name} is {seen}; give the server's address alone, for example "
                    "http://127.0.0.1:9000 or https://storage.example.org"
                )
        region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        if endpoint and not region:
            region = "us-east-1"  # what servers other than Amazon's take, or ignore
        return cls(endpoint, region, env.get("TOKENFOCUS_S3_ANONYMOUS") == "1", MAX_ATTEMPTS)


class S3(fs.S3FileSystem):
    """pyarrow's, except that a pickled copy keeps the number of attempts, which pyarrow drops."""

    def __init__(self, settings: S3Settings) -> None:
        """Opens no connection yet."""
        options: dict[str, Any] = {
            "anonymous": settings.anonymous,
            "region": settings.region,
            "request_timeout": REQUEST_TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
            "allow_delayed_open": True,  # a small file is one PUT rather than a multipart upload
        }
        if settings.endpoint:
            scheme, _, address = settings.endpoint.partition("://")
            options |= {"scheme": scheme, "endpoint_override": address}
        super().__init__(**options)
        self.settings = settings

    def __reduce__(self) -> tuple[Any, ...]:
        return s3_filesystem, (self.settings,)


def s3_filesystem(settings: S3Settings | None = None) -> S3:
    """The file system of these settings, or of the environment; one for each process."""
    return _of_process(settings or S3Settings.from_environment(), os.getpid())


@functools.lru_cache(maxsize=16)
def _of_process(settings: S3Settings, pid: int) -> S3:
    return S3(settings)  # a fork must not use its parent's connections


def etag(filesystem: fs.FileSystem, path: str) -> bytes:
    """The ETag of an object, else when it was written; empty where neither is told.

    Raises:
        OSError: it cannot be looked at.
    """
    with filesystem.open_input_file(path) as file:
        about: Any = file.metadata()  # its keys are texts, whatever the stubs say
    return bytes(about.get("ETag", about.get("Last-Modified", b"")))


def store_failed(error: BaseException) -> bool:
    """Whether the object store is to blame rather than the request: down, slow, busy or broken."""
    found = _ERROR.search(str(error))
    if found is None:
        return False
    status = int(found[2] or 0)
    return found[1] in _NAMES_OF_FAILURE or status >= 500 or status in (408, 429)


def explain(error: Exception, filesystem: fs.FileSystem) -> tuple[str, str]:
    """Cause and remedy, in words, of what a request raised."""
    found = _ERROR.search(str(error))
    cause = _NOISE.sub("", found[0] if found else str(error))
    if isinstance(error, StoreFailedError) or store_failed(error):
        settings = getattr(filesystem, "settings", S3Settings())
        return cause, (
            f"the object store at {settings.endpoint or 'Amazon'} did not answer in "
            f"{settings.attempts} attempts: check AWS_ENDPOINT_URL_S3 and the network, and run "
            "again"
        )
    fits = (remedy for text, remedy in _REMEDIES.items() if re.search(text, cause))
    return cause, next(fits, f"check the name, AWS_REGION, {KEYS}")
