"""S3's control plane: aiobotocore, natively on trio (its httpx session): who am I, and where is the bucket.

It moves no data; it is imported only where its answers are needed (0.7 s): a profile, SSO, an assumed role, the roles
of instances and containers, a region that nobody has named.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiobotocore.config
import aiobotocore.httpxsession
import aiobotocore.session
import aiobotocore.utils
import botocore
import botocore.exceptions
import botocore.loaders
import trio

from gridfs.errors import AccessDenied, GridfsError, InvalidInput
from gridfs.store.address import ProvidedCredentials, StaticCredentials
from gridfs.store.object_errors import Answer, error_of

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 10
"""Nothing received for so long: a page of a large bucket may take a second or two."""
_METADATA_TIMEOUT_S = 0.2
"""Where there is such a service it answers in 2 ms; where there is none, packets vanish."""

_ASK_AGAIN_AFTER = timedelta(minutes=5)
"""botocore renews credentials 15 minutes before they expire, when it is asked; obstore asks when ours have expired."""


@functools.cache
def _loader(search_path: str | None) -> botocore.loaders.Loader:
    """botocore's descriptions of S3 and its endpoints, read once for all sessions: each would read 45 ms of JSON."""
    return botocore.loaders.create_loader(search_path)


class AwsSession:
    """The AWS configuration of this user: its profile, its credentials, its region."""

    def __init__(self, profile: str | None = None) -> None:
        self.profile = profile
        session = self._session = aiobotocore.session.AioSession(profile=profile)
        session.set_default_client_config(client_config())
        session.lazy_register_component("data_loader", lambda: _loader(session.get_config_variable("data_path")))

    async def credential_provider(self) -> CredentialProvider:
        """Credentials from the whole chain, renewed for as long as trio runs. Raises AccessDenied if there are none."""
        with _map_credentials_error():
            credentials = await self._session.get_credentials()
        if credentials is None:
            raise AccessDenied(
                "no AWS credentials were found: neither in the environment, nor in a profile, nor of this machine",
                remedy="set --profile or AWS_ACCESS_KEY_ID, or --no-sign-request for a public bucket",
            )
        return CredentialProvider(self, credentials, trio.lowlevel.current_trio_token())

    def region(self) -> str | None:
        """The region of the environment or the profile."""
        with map_botocore_error("region", None):
            region: str | None = self._session.get_config_variable("region")
        return region

    async def machine_region(self, *, enabled: bool = True) -> str | None:
        """Where this machine is: by the AWS configuration, else by EC2's metadata service within 200 ms."""
        if (configured := self.region()) is not None or not enabled:
            return configured
        fetcher = aiobotocore.utils.AnyioInstanceMetadataRegionFetcher(timeout=_METADATA_TIMEOUT_S, num_attempts=1)
        with trio.move_on_after(_METADATA_TIMEOUT_S):
            try:
                region: str | None = await fetcher.retrieve_region()
            except (botocore.exceptions.BotoCoreError, OSError):
                return None
            return region
        return None

    @asynccontextmanager
    async def client(
        self, *, region: str, endpoint_url: str | None, signed: bool, keys: StaticCredentials | None = None
    ) -> AsyncIterator[Any]:
        """A client of S3; *keys* take the place of the chain. Raises InvalidInput for a profile that there is not."""
        given = {}
        if keys is not None:
            given["aws_access_key_id"] = keys.access_key_id
            given["aws_secret_access_key"] = keys.secret_access_key
            given["aws_session_token"] = keys.session_token or ""
        async with AsyncExitStack() as opened:
            with map_botocore_error(endpoint_url or "s3", None):  # the configuration is read when it is entered
                try:
                    client = await opened.enter_async_context(
                        self._session.create_client(
                            "s3",
                            region_name=region,
                            endpoint_url=endpoint_url,
                            config=client_config(signed=signed),
                            **given,
                        )
                    )
                except ValueError as error:  # botocore takes less than others do: no host name with an underscore
                    raise InvalidInput(
                        f"{endpoint_url or 's3'}: {error}", remedy="name the server by its number, or another name"
                    ) from error
            yield client

    async def bucket_region(self, bucket: str, *, endpoint_url: str | None = None) -> str | None:
        """Where *bucket* is: S3 tells everyone, also with a 301 or a 403. Raises NotFound if there is none.

        None: a server of another kind does not tell.
        """
        async with self.client(region="us-east-1", endpoint_url=endpoint_url, signed=False) as client:
            try:
                answer = await client.head_bucket(Bucket=bucket)
            except botocore.exceptions.ClientError as error:
                answer = error.response
                told = "x-amz-bucket-region" in answer["ResponseMetadata"].get("HTTPHeaders", {})
                status = answer["ResponseMetadata"]["HTTPStatusCode"]
                if not told and status not in (301, 307, 401, 403):
                    if status == 404:
                        answer["Error"]["Code"] = "NoSuchBucket"  # a HEAD has no body that says so
                    raise error_of(answer_of(error), where=f"s3://{bucket}", key=None) from error
            except botocore.exceptions.BotoCoreError as error:
                raise error_of(unanswered(error), where=f"s3://{bucket}", key=None) from error
        region: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return region


class CredentialProvider:
    """Called by obstore, in a thread of its own, whenever the credentials it has have expired; and by the short way of
    reads, in a thread of trio's.
    """

    def __init__(self, session: AwsSession, credentials: Any, token: trio.lowlevel.TrioToken) -> None:
        self.session = session
        self._credentials = credentials
        self._token = token

    def __call__(self) -> ProvidedCredentials:
        try:
            trio.from_thread.check_cancelled()
        except RuntimeError:  # no thread of trio's
            return trio.from_thread.run(self.current, trio_token=self._token)
        return trio.from_thread.run(self.current)  # ends with whoever waits for it: a helper program may hang

    async def current(self) -> ProvidedCredentials:
        """What to sign with now; renewed first when it is about to expire."""
        with _map_credentials_error():
            frozen = await self._credentials.get_frozen_credentials()
        changes = hasattr(self._credentials, "refresh_needed")
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _ASK_AGAIN_AFTER if changes else None,
        }


def client_config(*, signed: bool = True) -> Any:
    """On trio, with few and short tries: callers retry."""
    return aiobotocore.config.AioConfig(
        http_session_cls=aiobotocore.httpxsession.HttpxSession,
        signature_version="s3v4" if signed else botocore.UNSIGNED,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=64,
        s3={"addressing_style": "path"},
    )


def answer_of(error: Any) -> Answer:
    """What the server said, of a botocore ClientError."""
    response = error.response
    details = response.get("Error", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return Answer(status, details.get("Code"), details.get("Message", ""))


def unanswered(error: Exception) -> Answer:
    """For a request that no server answered."""
    return Answer(None, None, str(error), nobody_there=_has_cause(error, (ConnectionRefusedError, socket.gaierror)))


def _has_cause(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether all of what led to *error* (several addresses may have been tried) is of *kinds*."""
    if isinstance(error, BaseExceptionGroup):
        return all(_has_cause(one, kinds) for one in error.exceptions)
    return error is not None and (isinstance(error, kinds) or _has_cause(error.__cause__ or error.__context__, kinds))


@contextmanager
def map_botocore_error(where: str, key: str | None) -> Iterator[None]:
    """Turns what botocore raises in the block into our classes."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise error_of(answer_of(error), where=where, key=key) from error
    except botocore.exceptions.ProfileNotFound as error:
        raise InvalidInput(str(error), remedy="see ~/.aws/config for the profiles there are") from error
    except (
        botocore.exceptions.CredentialRetrievalError,
        botocore.exceptions.SSOError,
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
    ) as error:
        raise AccessDenied(str(error), remedy="get new ones (`aws sso login`, ...), or check --profile") from error
    except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError) as error:
        raise error_of(unanswered(error), where=where, key=key) from error
    except botocore.exceptions.BotoCoreError as error:
        raise InvalidInput(f"{where}: {error}") from error


@contextmanager
def _map_credentials_error() -> Iterator[None]:
    """As map_botocore_error, and what a helper program that is missing or talks nonsense lets through it."""
    try:
        with map_botocore_error("credentials", None):
            yield
    except GridfsError:
        raise
    except Exception as error:  # OSError, JSONDecodeError, RuntimeError ("... still expired"), whatever a plugin raises
        raise AccessDenied(
            f"no credentials could be had ({type(error).__name__}: {error})",
            remedy="check --profile, and the credential_process that it names",
        ) from error
