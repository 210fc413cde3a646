"""The loop that people write with the official client, done with care.

It keeps everything that one `get` and one `upsert` can keep: embeddings, documents, metadata,
uris, the collection's metadata and its index parameters. It has no memory, so it writes every
record each time; and it never notices what is gone.
"""

from __future__ import annotations

import math
import time
from typing import Any

from chromadb.api.collection_configuration import CreateCollectionConfiguration

from chromasync.lab.judge import connect

PAGE = 1000


def copy(primary_url: str, replica_url: str, longest_seconds: float = math.inf) -> dict[str, Any]:
    """Copy everything from one server to the other, page by page, or as much as time allows."""
    primary, replica = connect(primary_url), connect(replica_url)
    began_at = time.monotonic()
    started, cpu = time.perf_counter(), time.process_time()
    for source in primary.list_collections():
        index = source.configuration.get("hnsw")
        assert index is not None
        configuration: CreateCollectionConfiguration = {
            "hnsw": {
                "space": index["space"],
                "ef_construction": index["ef_construction"],
                "ef_search": index["ef_search"],
                "max_neighbors": index["max_neighbors"],
            }
        }
        copied = replica.get_or_create_collection(
            source.name,
            metadata=source.metadata,
            configuration=configuration,
            embedding_function=None,
        )
        for offset in range(0, source.count(), PAGE):
            if time.perf_counter() - started > longest_seconds:
                break
            page = source.get(
                limit=PAGE,
                offset=offset,
                include=["embeddings", "documents", "metadatas", "uris"],
            )
            copied.upsert(
                ids=page["ids"],
                embeddings=page["embeddings"],
                documents=page["documents"],
                metadatas=page["metadatas"],
                uris=page["uris"],
            )
    return {
        "span": [began_at, time.monotonic()],
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
