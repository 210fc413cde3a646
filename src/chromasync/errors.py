"""The tree of errors: each says what happened, what was left untouched, and what to do next.

    ChromasyncError
    ├── SettingsError            a setting is wrong or missing                     exit 2
    │   └── FolderError          a folder that Chroma cannot, or must not, open    exit 2
    ├── FolderInUse              another process has the folder open   transient   exit 5
    ├── ServerError              a Chroma server answered badly (carries `side`)
    │   ├── ServerUnreachable    no usable answer after retries        transient   exit 3
    │   ├── ServerBusy           429 or 503, with Retry-After          transient   exit 3
    │   ├── NotChroma            something answers, but not Chroma                 exit 4
    │   ├── ServerTooOld         Chroma, but older than 0.6.3                      exit 4
    │   ├── UntrustedCertificate its name, authority or date is wrong              exit 4
    │   ├── AccessRefused        401 or 403                                        exit 4
    │   ├── NotFound             404                                               exit 4
    │   ├── Conflict             the name is taken                                 exit 4
    │   ├── RequestRefused       400, 422, 501: this content cannot be stored      exit 4
    │   │   ├── TooLarge         413, or the connection closed on a large body     exit 4
    │   │   └── QuotaExceeded    422 with a quota message                          exit 4
    │   ├── ServerFault          500 that repeats: the server cannot do this       exit 4
    │   ├── WritesRefused        the server takes no write at all          transient   exit 4
    │   └── ReadOnlyViolation    our own code tried to write to the primary        exit 4
    ├── StoreError               the state store
    │   ├── StoreUnavailable     unreachable, locked, disk full        transient   exit 3
    │   └── StoreUnusable        corrupted, newer schema, not ours                 exit 4
    │       ├── DamagedChunk     one chunk of the ledger; it can be adopted again  exit 4
    │       └── StoreSettingsError   a SettingsError too: the way to it is wrong   exit 2
    ├── GuardRefusal             a guard refuses to run at all                     exit 4
    ├── LeaseLost                this process may no longer write      lease-lost  exit 3
    ├── AnotherInstance          another process leads on this store               exit 5
    ├── ReplicaPromoted          the replica is the primary now        transient   exit 6
    ├── AnotherStore             another store uses this replica       transient   exit 5
    ├── Paused                   someone paused the service            transient   exit 4
    ├── AlertNotTaken            a receiver of alerts did not take one transient   exit 3
    └── Stopped                  asked to stop in the middle of a cycle            exit 130

`retry` says whether a repetition can succeed: `transient` (it may succeed later), `permanent` (it
fails again unless something changes) or `lease_lost` (another process owns the work now).
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Retry(StrEnum):
    """Whether a repetition of the failed operation can succeed."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    LEASE_LOST = "lease_lost"


class ChromasyncError(Exception):
    """An error that a person can understand and act on.

    Args:
        what: what happened, one sentence.
        untouched: what was left unchanged, one sentence; empty when nothing could have changed.
        hint: what to do next, one sentence; the class default is used when empty.
    """

    retry: ClassVar[Retry] = Retry.PERMANENT
    exit_code: ClassVar[int] = 4
    default_hint: ClassVar[str] = ""

    def __init__(self, what: str, *, untouched: str = "", hint: str = "") -> None:
        self.what = what
        self.untouched = untouched
        self.hint = hint or self.default_hint
        super().__init__(what)

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.untouched, self.hint) if part)


class SettingsError(ChromasyncError):
    """A setting is missing, unknown or has a value that is not allowed."""

    exit_code = 2
    default_hint = "Run `chromasync doctor` to see every setting and its origin."


class FolderError(SettingsError):
    """A folder is none of Chroma's, or Chroma would have to change it to open it."""

    def __init__(
        self, what: str, *, untouched: str = "Nothing in it was changed.", hint: str = ""
    ) -> None:
        super().__init__(what, untouched=untouched, hint=hint)


class FolderInUse(ChromasyncError):
    """Another process has the folder open, and Chroma does not share one between processes."""

    retry = Retry.TRANSIENT
    exit_code = 5

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(what, untouched="It was not opened.", hint=hint)


class ServerError(ChromasyncError):
    """A Chroma server did not carry out a request.

    Args:
        side: `primary` or `replica`.
        status: the HTTP status, when there was an answer.
        said: the server's own message, when there was one.
    """

    def __init__(
        self,
        what: str,
        *,
        side: str,
        status: int | None = None,
        said: str = "",
        untouched: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(what, untouched=untouched, hint=hint)
        self.side = side
        self.status = status
        self.said = said


class ServerUnreachable(ServerError):
    """The server gave no usable answer, retries included."""

    retry = Retry.TRANSIENT
    exit_code = 3
    default_hint = "Check that the server runs and that its URL is right; work resumes by itself."


class ServerBusy(ServerUnreachable):
    """The server asks to slow down (429 or 503).

    Args:
        retry_after_seconds: how long the server asked to wait, when it said so.
    """

    default_hint = "The server limits the rate; work resumes by itself."

    def __init__(
        self,
        what: str,
        *,
        side: str,
        status: int | None = None,
        said: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(what, side=side, status=status, said=said)
        self.retry_after_seconds = retry_after_seconds


class NotChroma(ServerError):
    """Something answers at the URL, but it does not speak Chroma's v2 API."""

    default_hint = "Check the URL, its path prefix and any proxy in front of the server."


class ServerTooOld(ServerError):
    """A Chroma server of a version that cannot be mirrored."""

    default_hint = "Upgrade it to 0.6.3 or newer."


class UntrustedCertificate(ServerError):
    """The server's certificate has another name, an unknown authority, or is out of date."""


class AccessRefused(ServerError):
    """The server refuses our credentials (401 or 403)."""

    default_hint = "Check the token and the extra headers of this side."


class NotFound(ServerError):
    """The tenant, database or collection does not exist (404)."""

    default_hint = "Check its name. If it was removed meanwhile, the next cycle detects this."


class Conflict(ServerError):
    """The name is already taken."""

    default_hint = "Rename or remove the existing one; the next cycle tries again."


class RequestRefused(ServerError):
    """The server refuses this content permanently (400, 422 or 501)."""


class TooLarge(RequestRefused):
    """The request body is larger than the server accepts (413)."""


class QuotaExceeded(RequestRefused):
    """The request breaks a quota of the server (422 with a quota message)."""


class ServerFault(ServerError):
    """The server answers this request with 500 each time."""

    default_hint = "See the server's own log for the reason; the next cycle tries again."


class WritesRefused(ServerError):
    """The server takes no write at all: its disk is full, or our token has no right to write."""

    retry = Retry.TRANSIENT
    default_hint = (
        "Free space on its disk, or give our token the right to write; work then resumes by itself."
    )

    def __init__(self, what: str, *, side: str, status: int | None = None, said: str = "") -> None:
        super().__init__(
            what,
            side=side,
            status=status,
            said=said,
            untouched="No record was quarantined for it.",
        )


class ReadOnlyViolation(ServerError):
    """Our own code tried to write to the primary; nothing was sent."""

    default_hint = "This is a defect in chromasync; please report it."


class StoreError(ChromasyncError):
    """The state store cannot be used."""


class StoreUnavailable(StoreError):
    """The state store is unreachable, locked by another process, or out of space."""

    retry = Retry.TRANSIENT
    exit_code = 3


class StoreUnusable(StoreError):
    """The state store is corrupted, has a newer version, or is not a store of chromasync."""


class DamagedChunk(StoreUnusable):
    """The ledger of one collection cannot be read; the rest of the store can.

    Args:
        collection_id: the collection; after its ledger is deleted, the next cycle adopts it again.
        chunk_id: the damaged chunk; None for an id list that belongs to no chunk.
    """

    default_hint = "The ledger of this collection is rebuilt by comparing both sides."

    def __init__(self, what: str, *, collection_id: str, chunk_id: int | None) -> None:
        super().__init__(what, untouched="Nothing was changed.")
        self.collection_id = collection_id
        self.chunk_id = chunk_id


class StoreSettingsError(SettingsError, StoreUnusable):
    """The settings of the state store lead to no connection."""


class GuardRefusal(ChromasyncError):
    """A guard refuses to run, because a run could destroy data."""


class LeaseLost(ChromasyncError):
    """The lease of the task expired, so this process may no longer write for it."""

    retry = Retry.LEASE_LOST
    exit_code = 3


class AnotherInstance(ChromasyncError):
    """Another process already leads on this state store."""

    exit_code = 5


class AnotherStore(ChromasyncError):
    """Another state store uses the same place of the same replica, and its process is alive."""

    retry = Retry.TRANSIENT
    exit_code = 5


class ReplicaPromoted(ChromasyncError):
    """The replica was promoted, so this program never writes to it again."""

    retry = Retry.TRANSIENT
    exit_code = 6
    default_hint = (
        "Applications use it as their primary now. To mirror it, set PRIMARY_URL to it, and "
        "REPLICA_URL to the former primary or a new server; then the next cycle turns round."
    )

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, untouched="Nothing was written to it.", hint=hint)


class Paused(ChromasyncError):
    """Someone has paused the service, so no request goes to either server."""

    retry = Retry.TRANSIENT
    default_hint = "`chromasync resume` ends the pause."


class AlertNotTaken(ChromasyncError):
    """A receiver did not take a message; its address is a secret, so no message has it.

    Args:
        retry_after_seconds: how long the receiver asked to wait, when it said so.
    """

    retry = Retry.TRANSIENT
    exit_code = 3
    default_hint = "Check the setting; the message is sent again by itself."

    def __init__(
        self, what: str, *, hint: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(what, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class Stopped(ChromasyncError):
    """The process was asked to stop in the middle of a cycle."""

    retry = Retry.TRANSIENT
    exit_code = 130
