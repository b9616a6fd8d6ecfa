"""Inputs -> the corpus of a run: encoded now, taken from the cache of earlier runs, or prepared beforehand.

A prepared corpus is a folder with `corpus.bin` and `corpus.json`. The cache holds such folders, named by a digest of
everything that decides the bytes: contents of the input files, how they are read, the model's declaration, our code.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import msgspec
import platformdirs

from loadgen import atomic, clock, corpus, kserve, kserve_http
from loadgen.errors import PlanError
from loadgen.kserve import InputEvent, ModelMetadata, signature_text
from loadgen.plan import Plan, Prepared

BYTES_FILE, INDEX_FILE = "corpus.bin", "corpus.json"
CACHE_LIMIT_BYTES = 4 << 30
WORTH_CACHING_BYTES = 16 << 20
"""What is smaller is encoded in less time than one would notice."""


class Source(Protocol):
    """Where events come from; encoded only once the model's signature is known."""

    @property
    def description(self) -> str:
        """The inputs in words, for every table and chart."""

    @property
    def synthetic(self) -> bool:
        """Whether the events are made up."""

    @property
    def provenance(self) -> dict[str, object]:
        """Where the events come from, in full."""

    @property
    def files(self) -> Sequence[Path] | None:
        """The files whose contents decide the requests; None if not only files do."""

    def events(self, metadata: ModelMetadata, batch: int) -> Iterator[InputEvent]:
        """Yield every request, encoded for the model, each joining `batch` events."""


class Progress(Protocol):
    """Hears how far the preparation is."""

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Hear how many requests are encoded."""


def prepare(  # noqa: PLR0913 - the plan, what it meets, and where the result goes
    plan: Plan, source: Source, metadata: ModelMetadata, binary: Path, progress: Progress, *, cached: bool = True
) -> corpus.Index:
    """Put the corpus of a plan at `binary` and return its index.

    Raises:
        PlanError: an input is wrong, or a prepared corpus is of another model.
        FleetError: the disk refuses it.
    """
    if isinstance(plan.inputs, Prepared):
        return _adopt(Path(plan.inputs.path), plan, metadata, binary)
    key = _key(plan, source, metadata) if cached else None
    if key is not None and (found := _from_cache(key, binary)) is not None:
        facts = {"source": source.description, "synthetic": source.synthetic, "provenance": source.provenance}
        return msgspec.structs.replace(found, **facts)
    index = encode(plan, source, metadata, binary, progress)
    if key is not None:
        _into_cache(key, binary, index)
    return index


def encode(plan: Plan, source: Source, metadata: ModelMetadata, binary: Path, progress: Progress) -> corpus.Index:
    """Encode every event into `binary` and return the index; errors as `prepare`."""
    endpoint, dropped = plan.endpoint, 0

    def requests() -> Iterator[corpus.Request]:
        nonlocal dropped
        size_bytes = 0
        for count, event in enumerate(source.events(metadata, plan.batch), start=1):
            parameters = {**plan.parameters, **event.parameters}
            message = kserve.infer_request(endpoint.model, endpoint.version, event.tensors, parameters)
            message = kserve_http.from_grpc(message) if endpoint.http else message
            answer = {tensor.name: kserve.digest(kserve.raw_content(tensor)) for tensor in event.answer}
            dropped += event.dropped_cells
            size_bytes += len(message)
            progress.preparing(count, size_bytes)
            yield corpus.Request(event.label, message, event.cells, event.stream, event.step, answer)

    facts = {"source": source.description, "provenance": source.provenance, "synthetic": source.synthetic}
    index = corpus.write(binary, requests(), **facts)  # type: ignore[arg-type]
    made_for = _made_for(plan, metadata)
    return msgspec.structs.replace(index, made_for=made_for, dropped_cells=dropped)


def read_index(folder: Path) -> corpus.Index:
    """Return the index of a prepared corpus.

    Raises:
        PlanError: the folder is none.
    """
    try:
        return corpus.read_index(folder / INDEX_FILE)
    except (OSError, msgspec.MsgspecError) as error:
        raise PlanError(
            f"{folder}: is no prepared corpus (make one with `python -m inputs cells`): {error}"
        ) from error


def index_json(index: corpus.Index) -> bytes:
    """Return an index as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(index), indent=2) + b"\n"


def _made_for(plan: Plan, metadata: ModelMetadata) -> str:
    version = f" version {plan.endpoint.version}" if plan.endpoint.version else ""
    over = ", over HTTP" if plan.endpoint.http else ""
    extra = f", {plan.parameters}" if plan.parameters else ""
    signature = signature_text(sorted(metadata.inputs, key=str))
    return f"{plan.endpoint.model}{version}: {signature}, batch {plan.batch}{over}{extra}"


def _adopt(folder: Path, plan: Plan, metadata: ModelMetadata, binary: Path) -> corpus.Index:
    index, wanted = read_index(folder), _made_for(plan, metadata)
    if index.made_for != wanted:
        raise PlanError(f"{folder}: was made for {index.made_for}; the run is for {wanted}")
    if not _is_whole(folder, index):
        raise PlanError(f"{folder}: {BYTES_FILE} is damaged; make the corpus again")
    _link(folder / BYTES_FILE, binary)
    return index


def _key(plan: Plan, source: Source, metadata: ModelMetadata) -> str | None:
    names = source.files
    if names is None or sum(path.stat().st_size for path in names) < WORTH_CACHING_BYTES:
        return None
    digest = hashlib.sha256(_code_digest())
    # Names are part of labels; the folders they lie in are not.
    inputs = msgspec.json.encode(plan.inputs).decode()
    for path in names:
        inputs = inputs.replace(str(path.parent), "")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest() + path.name.encode() + b"\0")
    digest.update(
        f"{inputs} {_made_for(plan, metadata)} {metadata.max_batch_size} {sorted(metadata.optional)}".encode()
    )
    digest.update(str(sorted(map(str, metadata.outputs))).encode())
    return digest.hexdigest()


@cache
def _code_digest() -> bytes:
    """Digest the code that turns files into requests, so that no corpus outlives a change of it."""
    digest = hashlib.sha256()
    for module in sorted(files("inputs").iterdir(), key=lambda each: each.name):
        if module.is_file():
            digest.update(module.read_bytes())
    for name in ("kserve.py", "kserve_http.py", "prepare.py"):
        digest.update((files("loadgen") / name).read_bytes())
    return digest.digest()


def _from_cache(key: str, binary: Path) -> corpus.Index | None:
    folder = _cache_folder() / key
    if not (folder / INDEX_FILE).exists():
        return None
    index = read_index(folder)
    if not _is_whole(folder, index):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    _mark_used(folder / INDEX_FILE)
    _link(folder / BYTES_FILE, binary)
    return index


def _into_cache(key: str, binary: Path, index: corpus.Index) -> None:
    """Keep a corpus for later runs; a cache that cannot be written is no reason to fail."""
    root = _cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".draft-", ignore_cleanup_errors=True) as draft:
            _link(binary, Path(draft) / BYTES_FILE)
            (Path(draft) / INDEX_FILE).write_bytes(msgspec.json.encode(index))
            _mark_used(Path(draft) / INDEX_FILE)
            Path(draft).rename(root / key)
        _evict(root)
    except OSError:
        return


def _mark_used(index: Path) -> None:
    """Stamp it finer than the file system's own clock ticks."""
    now_ns = clock.utc_ns()
    os.utime(index, ns=(now_ns, now_ns))


def _evict(root: Path) -> None:
    """Remove the corpora that were used longest ago, until the rest is within the limit."""
    known = sorted(root.glob(f"*/{INDEX_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for index in known:
        total += (index.parent / BYTES_FILE).stat().st_size
        if total > CACHE_LIMIT_BYTES:
            shutil.rmtree(index.parent, ignore_errors=True)


def _is_whole(folder: Path, index: corpus.Index) -> bool:
    try:
        with (folder / BYTES_FILE).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == index.sha256
    except OSError:
        return False


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; across file systems, copy it."""
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise atomic.refusal(target, error) from error


def _cache_folder() -> Path:
    return platformdirs.user_cache_path("loadgen") / "corpora"
