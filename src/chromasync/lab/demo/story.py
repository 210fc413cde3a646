"""The demo from beginning to end: its acts in order, and their result."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from signal import SIGINT, SIGTERM

import psutil
from rich.console import Console

from chromasync.lab.chroma_server import loopback_without_proxy
from chromasync.lab.demo.acts import HELD_BACK, SCENES, Scene, copied, hits_of
from chromasync.lab.demo.corpus import LANGUAGE, LIBRARY, Corpus, read_corpus
from chromasync.lab.demo.embedding import DIMENSION, TextEmbedding
from chromasync.lab.demo.show import Bar, Seen, Teller
from chromasync.lab.demo.stage import (
    Servers,
    Stage,
    fill,
    program,
    two_servers,
)
from chromasync.lab.judge import connect, judge

INTERRUPTED = 130
KEEP_INTERVAL_SECONDS = 5.0
HITS = 3
DISTANCE_TOLERANCE = 1e-5
QUESTIONS = (
    (LIBRARY, "the median of a list of numbers"),
    (LIBRARY, "compress data into a zip archive"),
    (LANGUAGE, "replace part of a string"),
)


def tell(console: Console, *, keep: bool) -> int:
    """Play the whole demo; 0 if all was right, 1 if not, 130 if it was interrupted."""
    started = time.monotonic()
    teller = Teller(console)
    servers: Servers | None = None
    finished = False
    try:
        with _one_interrupt(), loopback_without_proxy(), two_servers() as servers:
            _play(teller, servers, started, keep=keep)
            finished = True
    except KeyboardInterrupt:
        teller.say("")
        teller.say("Interrupted.")
    if servers is not None:
        teller.judge(_nothing_left(servers))
    return _verdict(teller, finished=finished)


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into an orderly end; a second signal is ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping = threading.Event()

    def interrupt(*_: object) -> None:
        if not stopping.is_set():
            stopping.set()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _play(teller: Teller, servers: Servers, started: float, *, keep: bool) -> None:
    corpus = read_corpus()
    texts = [p.text for passages in corpus.values() for p in passages if p.text is not None]
    embed = TextEmbedding(texts)
    primary, replica = connect(servers.primary_url), connect(servers.replica_url)
    _introduce(teller, servers, corpus)
    first = {n: p[:-HELD_BACK] if n == LIBRARY else p for n, p in corpus.items()}
    with Bar(teller.console) as progress:
        seconds = fill(primary, first, embed, progress)
    count = sum(map(len, first.values()))
    teller.say(f"The official client put {count:,} records into the primary in {seconds:.1f} s.")
    with program(servers) as app:
        stage = Stage(teller.console, primary, replica, app, corpus, embed)
        _copy(teller, stage)
        for scene in SCENES:
            _perform(teller, stage, scene)
        _search(teller, stage)
        _verify(teller, stage)
        teller.say("")
        teller.say(f"The demo took {time.monotonic() - started:.1f} s.")
        if keep:
            _keep(teller, stage, servers)


def _introduce(teller: Teller, servers: Servers, corpus: Corpus) -> None:
    teller.title("Two Chroma servers")
    teller.say(f"primary  {servers.primary_url}")
    teller.say(f"replica  {servers.replica_url}")
    total = sum(map(len, corpus.values()))
    teller.say(
        f"The text is Python's own documentation, found on this machine: {total:,} passages in "
        f"{len(corpus)} collections, each with an embedding of {DIMENSION} numbers."
    )


def _copy(teller: Teller, stage: Stage) -> None:
    teller.title("Copying")
    report = stage.cycle()
    rate = report.counts.inserted / max(report.duration_seconds, 1e-9)
    teller.say(
        f"chromasync copied {report.counts.inserted:,} records to the replica in "
        f"{report.duration_seconds:.1f} s, {rate:,.0f} a second."
    )
    teller.say("Seen on the replica, by the official client:")
    for seen in copied(stage, report):
        teller.judge(seen)


def _perform(teller: Teller, stage: Stage, scene: Scene) -> None:
    teller.title(scene.title)
    act = scene.play(stage)
    teller.say("On the primary: " + next(act))
    report = stage.cycle()
    try:
        act.send(report)
    except StopIteration as end:
        for seen in end.value:
            teller.judge(seen)


def _search(teller: Teller, stage: Stage) -> None:
    teller.title("Searching on both sides")
    for collection, question in QUESTIONS:
        ours, theirs = hits_of(stage, collection, question, HITS)
        teller.say(f"“{question}” in {collection}:")
        teller.side_by_side(ours, theirs)
        same = [i for i, _ in ours] == [i for i, _ in theirs] and all(
            abs(a - b) <= DISTANCE_TOLERANCE for (_, a), (_, b) in zip(ours, theirs, strict=True)
        )
        found = "the same records in the same order" if same else "different records or distances"
        teller.judge(Seen(f"Both sides find {found}.", same and len(ours) == HITS))


def _verify(teller: Teller, stage: Stage) -> None:
    teller.title("Verifying")
    report = stage.verify()
    same = sum(collection.same for collection in report.collections)
    verdict = "identical" if report.exit_code == 0 else "not identical"
    teller.judge(
        Seen(
            f"chromasync compared every record of both sides in {report.duration_seconds:.1f} s: "
            f"{same:,} records in {len(report.collections)} collections are the same, "
            f"{report.different} different, {report.inconclusive} inconclusive; the replica is "
            f"{verdict}.",
            report.exit_code == 0,
        )
    )
    opinion = judge(stage.primary, stage.replica)
    teller.judge(
        Seen(
            f"The official client, reading all {opinion.records:,} records of both sides, says: "
            f"{opinion}.",
            opinion.identical and opinion.records == same,
        )
    )
    for example in opinion.examples:
        teller.say(f"       {example}")


def _keep(teller: Teller, stage: Stage, servers: Servers) -> None:
    path = "/api/v2/tenants/default_tenant/databases/default_database/collections"
    port = servers.replica_url.rpartition(":")[2]
    # the interpreter by its path: the reader's own shell may know neither package
    python = quote(sys.executable)
    teller.title("Both servers keep running until Ctrl-C. To look at them:")
    teller.verbatim(f"curl -s {servers.replica_url}{path}")
    teller.verbatim(
        f'{python} -c "import chromadb; '
        f"print(chromadb.HttpClient('127.0.0.1', {port}).list_collections())\""
    )
    teller.verbatim(
        f"PRIMARY_URL={servers.primary_url} REPLICA_URL={servers.replica_url} "
        f"SYNC_DATA_DIR={quote(str(servers.state))} {python} -m chromasync status"
    )
    teller.say(
        f"A cycle starts every {KEEP_INTERVAL_SECONDS:.0f} s: change something on the primary "
        f"({servers.primary_url}) and look at the replica."
    )
    _keep_cycling(teller, stage)


def _keep_cycling(teller: Teller, stage: Stage) -> None:
    never = threading.Event()
    try:
        while not never.wait(KEEP_INTERVAL_SECONDS):
            report = stage.cycle()
            if report.counts.applied or report.exit_code:
                counts = report.counts
                teller.say(
                    f"Cycle {report.cycle.id}: inserted {counts.inserted}, updated "
                    f"{counts.updated + counts.replaced}, deleted {counts.deleted}; "
                    f"{report.outcome.value}."
                )
    except KeyboardInterrupt:
        teller.say("")


def _nothing_left(servers: Servers) -> Seen:
    running = [pid for pid in servers.pids if psutil.pid_exists(pid)]
    tidy = not running and not servers.folder.exists()
    sentence = "Both servers are stopped and their folders removed."
    if not tidy:
        sentence = f"Something was left behind: processes {running}, folder {servers.folder}."
    return Seen(sentence, tidy)


def _verdict(teller: Teller, *, finished: bool) -> int:
    if teller.wrong:
        teller.title(f"{len(teller.wrong)} things were not right:")
        for seen in teller.wrong:
            teller.say(f"- {seen.sentence}")
        return 1 if finished else INTERRUPTED
    if not finished:
        return INTERRUPTED
    teller.title(f"All {teller.right_count} observations were right: the replica is identical.")
    return 0
