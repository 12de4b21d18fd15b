"""Files from the Hugging Face hub, through its own client: an answer, or one clear error, quickly.

The client's cache, token and settings (``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, offline mode)
are the user's and are left as they are.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitlet.errors import HubUnreachable, InvalidValue, ModelNotFound, ModelUnreadable, NotWritable, VitletError
from vitlet.records import Progress, ProgressCallback, no_progress

#: Seconds to wait for the hub's first answer. The client's own retries would take a minute to say
#: that a machine is offline.
ANSWER_TIMEOUT_S = 10.0

#: A connection that breaks off again and again is given up after so many starts from zero.
MOST_RESTARTS = 3

#: Top-level packages whose exceptions mean that the network failed; the client changed its HTTP
#: library twice.
_NETWORK_PACKAGES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "urllib", "hf_xet"})

_NOT_WRITABLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EFBIG}
)


def fetch(
    repository: str, filename: str, *, revision: str | None = None, progress: ProgressCallback = no_progress
) -> Path | None:
    """Return the local copy of a file in a model repository, downloading it when the cache has not
    the hub's version; ``None`` when the repository has no such file.

    When the hub cannot be reached, what the cache knows is good enough.

    Raises:
        ModelNotFound: no such repository or revision, or it is private or gated.
        HubUnreachable: the hub or the network is down and the cache has no copy.
        NotWritable: the cache cannot be written.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    settings: dict[str, Any] = {"revision": revision}
    if "tqdm_class" in _parameters(huggingface_hub.hf_hub_download):
        settings["tqdm_class"] = _bar(f"{repository}/{filename}", progress)
    with hub_errors(repository):
        # A path, None, or a mark that the repository had no such file when it was last asked.
        cached = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision)
        try:
            if not isinstance(cached, str):
                _ask_first(repository, filename, revision)
            return Path(huggingface_hub.hf_hub_download(repository, filename, **settings))
        except Exception as error:
            # The local one says that the hub is down, though it is a kind of the other.
            missing = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            known = cached is not None and isinstance(translate(error, repository), HubUnreachable)
            if missing or known:
                return None
            raise


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turn what the hub's client, timm or torch.hub raise while downloading into vitlet's errors.

    Raises:
        ModelNotFound, HubUnreachable, NotWritable: as ``fetch`` says.
        ModelUnreadable: a file arrived but is damaged.
        InvalidValue: no repository can have this name.
    """
    try:
        yield
    except VitletError:
        raise
    except Exception as error:
        translated = translate(error, repository)
        if translated is None:
            raise
        raise translated from error


def translate(error: BaseException, repository: str) -> VitletError | None:
    """The vitlet error that says what ``error`` of the hub's client means, or ``None``."""
    from huggingface_hub import constants, errors

    where = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return ModelNotFound(
            f"the model {repository} is gated: accept its conditions at {where}/{repository}, "
            "then log in with `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"{where} has no public model {repository!r}; check the name, "
            "or log in with `hf auth login` if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"the model {repository} has no such revision; leave out the part behind '@'")
    if isinstance(error, errors.HFValidationError):
        return InvalidValue(f"{repository!r} cannot be a repository on the hub; it is written owner/name")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return ModelNotFound(f"{where} refuses access to {repository}; log in with `hf auth login`")
    if status is not None:
        return HubUnreachable(f"{where} answers with error {status} for {repository}; try again later")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) or _is_network(error):
        return HubUnreachable(
            f"{where} cannot be reached for {repository} ({_why(error)}) and it is not in the cache; "
            "check the network, or use --random-weights for speed work"
        )
    if type(error).__name__ == "SafetensorError":
        return ModelUnreadable(f"the weights of {repository} are damaged ({error}); delete them from the cache")
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return NotWritable(f"the cache {constants.HF_HUB_CACHE} cannot be written: {error.strerror}")
    if isinstance(error, OSError) or type(error).__module__.startswith("huggingface_hub"):
        return HubUnreachable(f"{repository} cannot be downloaded from {where}: {_why(error)}; try again")
    return None


def _ask_first(repository: str, filename: str, revision: str | None) -> None:
    # One request without the client's retries: it raises within seconds when nobody answers.
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return
    with suppress(EntryNotFoundError):  # the download that follows notes it in the cache
        get_hf_file_metadata(hf_hub_url(repository, filename, revision=revision), timeout=ANSWER_TIMEOUT_S)


def _parameters(function: Any) -> frozenset[str]:
    import inspect

    return frozenset(inspect.signature(function).parameters)


def _is_network(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return package in _NETWORK_PACKAGES or isinstance(error, ConnectionError | TimeoutError | _BrokenOff)


def _why(error: BaseException) -> str:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(cause).__name__


class _BrokenOff(OSError):
    """The connection broke off again and again."""


def _bar(name: str, progress: ProgressCallback) -> type[Any]:
    """A progress bar for the hub's client that draws nothing and tells ``progress`` instead."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        restarts = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total = kwargs.get("total") or 0
            self.n = kwargs.get("initial") or 0

        def update(self, n: float | None = 1) -> bool | None:
            # The client counts back when the hub cannot resume and it starts from zero; by itself
            # it would do so without end.
            self.restarts += (n or 0) < 0
            if self.restarts > MOST_RESTARTS:
                raise _BrokenOff(f"the connection broke off {self.restarts} times")
            self.n += n or 0
            progress(Progress("download", name, done=int(self.n), total=int(self.total or 0)))
            return None

    return Bar
