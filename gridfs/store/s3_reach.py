"""Finds the way to a bucket that someone else may own: its region, whether it asks for credentials, what may be done.

    1. where is it      a HEAD of the bucket, which S3 answers with the region for everyone, even with 403
    2. as anyone        a listing of one key without a signature: public buckets are read so, also by those who have
                        credentials, because a policy may allow everyone and deny them
    3. as this user     the same with the credential chain, if there is one

The first that may list is what the version remembers. A server at an endpoint of its own may not tell a region; then
the configured one is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from gridfs.config import AwsEnvironment, StoreSettings
from gridfs.errors import AccessDenied, NotFound, ObjectMissing
from gridfs.selection import endpoint_of
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.base import ObjectHead
from gridfs.store.retry import RetryPolicy, persist
from gridfs.store.s3 import AwsSession, CredentialProvider
from gridfs.store.s3_bucket import S3Bucket

_SAMPLE = 50
"""Keys of a first look; three of them are asked whether they may be read."""

_PATIENCE = RetryPolicy(deadline_s=10, unreachable_deadline_s=2)
"""Someone waits, who may have mistyped the endpoint."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A bucket, how it is read, and what of it was meant."""

    address: BucketAddress
    prefix: str
    """Empty or with a final slash: what lies below it was meant."""
    single: ObjectHead | None
    """The object that was meant, when it is one: then *prefix* is what its key has before the last component."""
    told_region: str | None
    """The bucket's region, where the server has told it."""

    @property
    def is_signed(self) -> bool:
        return self.address.credentials is not None


async def reach(bucket: str, path: str, settings: StoreSettings, aws: AwsEnvironment) -> Reached:
    """The way to what `s3://bucket/path` means: all below `path/`, or the object *path*.

    Raises NotFound when there is no such bucket, prefix or object, AccessDenied when it may not be listed, StoreRefused
    when the endpoint is no S3 server, InvalidInput when it is no address.
    """
    endpoint_url = endpoint_of(settings.endpoint_url, None, aws)
    session = AwsSession(settings.profile)
    told = await persist(lambda: session.bucket_region(bucket, endpoint_url=endpoint_url), _PATIENCE, Random())
    region = told or settings.region or aws.region or "us-east-1"
    anyone = BucketAddress(bucket, region, endpoint_url, None, settings.requester_pays, not aws.has_proxy)
    try:
        return Reached(anyone, *await _meant(anyone, path), told)
    except AccessDenied as error:
        credentials = await _credentials(session, settings, aws)
        if credentials is None:
            raise _refusal(error, bucket, path, settings, signed=False) from error
    me = replace(anyone, credentials=credentials)
    try:
        return Reached(me, *await _meant(me, path), told)
    except AccessDenied as error:
        raise _refusal(error, bucket, path, settings, signed=True) from error


async def region_note(reached: Reached, settings: StoreSettings, aws: AwsEnvironment) -> str | None:
    """What to tell of the bucket's region: a warning when this machine is elsewhere; None when both are the same."""
    region, bucket = reached.told_region, reached.address.bucket
    if region is None:
        return None
    here = aws.region or await AwsSession(settings.profile).machine_region(enabled=aws.has_metadata)
    if here is None:
        return f"the bucket {bucket} is in region {region}"
    if here == region:
        return None
    return (
        f"the bucket {bucket} is in region {region} and this machine in {here}: "
        "reading between regions is slower, and AWS charges for it"
    )


async def _credentials(
    session: AwsSession, settings: StoreSettings, aws: AwsEnvironment
) -> StaticCredentials | CredentialProvider | None:
    """This user's, if there are any."""
    if not settings.sign:
        return None
    if settings.profile is None and aws.access_key_id and aws.secret_access_key:
        return StaticCredentials(aws.access_key_id, aws.secret_access_key, aws.session_token)
    try:
        return await session.credential_provider()
    except AccessDenied:
        if settings.profile is not None:
            raise
        return None


async def _meant(address: BucketAddress, path: str) -> tuple[str, ObjectHead | None]:
    """The prefix, or the object, that *path* names; `data` never means `data2/`."""
    client = S3Bucket(address)
    try:
        directory = path if path == "" or path.endswith("/") else path + "/"
        page = await persist(lambda: client.list_page(directory, most=_SAMPLE), _PATIENCE, Random())
        if page.heads:
            await _check_readable(client, page.heads)
        if page.heads or directory == "":
            return directory, None
        if directory != path:
            # A key sorts before those that it begins.
            exact = (await persist(lambda: client.list_page(path, most=1), _PATIENCE, Random())).heads
            if exact and exact[0].key == path:
                await _check_readable(client, exact)
                return path[: path.rfind("/") + 1], exact[0]
        raise NotFound(
            f"there is nothing at s3://{address.bucket}/{path}", remedy="check the prefix; a final slash means a folder"
        )
    except AccessDenied as error:
        if directory == path or isinstance(error, _NotReadable):
            raise
        head = await _head_of_one(client, path)  # an object may be read by its name where nothing may be listed
        if head is None:
            raise
        return path[: path.rfind("/") + 1], head
    finally:
        await client.aclose()


class _NotReadable(AccessDenied):
    """Its keys may be listed, and none of those that were tried may be read."""


async def _check_readable(client: S3Bucket, heads: Sequence[ObjectHead]) -> None:
    """Raises _NotReadable if neither the first nor the middle nor the last of *heads* may be read."""
    for head in {heads[0], heads[len(heads) // 2], heads[-1]}:
        if await _head_of_one(client, head.key) is not None:
            return
    raise _NotReadable(f"{client.url}/{heads[0].key} may not be read")


async def _head_of_one(client: S3Bucket, key: str) -> ObjectHead | None:
    try:
        return await client.head(key)
    except (AccessDenied, ObjectMissing):
        return None


def _refusal(error: AccessDenied, bucket: str, path: str, settings: StoreSettings, *, signed: bool) -> AccessDenied:
    """*error*, in words that help: who was refused what, and what there is to try."""
    if "access denied" not in error.message and not isinstance(error, _NotReadable):
        return error  # wrong keys, a wrong clock
    what = "listed, but its objects not read" if isinstance(error, _NotReadable) else "listed"
    who = "neither without nor with your credentials" if signed else "without credentials, and there are none"
    remedies = []
    if not isinstance(error, _NotReadable):
        remedies.append("a single object that may be read can be a source by its whole key")
    if not settings.requester_pays:
        remedies.append("if its readers pay (requester pays), say --requester-pays: AWS then charges you")
    if not signed:
        remedies.append("set --profile or AWS_ACCESS_KEY_ID if you have access" if settings.sign else "leave out "
                        "--no-sign-request if you have access")  # fmt: skip
    may = "may be" if isinstance(error, _NotReadable) else "may not be"
    return AccessDenied(f"s3://{bucket}/{path} {may} {what}, {who}", remedy="; ".join(remedies) or None)
