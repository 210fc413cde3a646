"""Whether the tenant of the token stands for the default tenant of a server."""

from __future__ import annotations

import pytest

from chromasync.chroma.tenant import TokenTenant

DEFAULT = "/api/v2/tenants/default_tenant"
DOCS = f"{DEFAULT}/databases/docs"


def test_paths_of_the_default_tenant_become_those_of_the_token() -> None:
    """Only whole path segments are replaced, and a name is quoted."""
    tenant = TokenTenant()
    assert tenant.settle({"tenant": "a b", "databases": ["docs"]})
    assert tenant.other == "a b"
    assert tenant.path(DOCS) == "/api/v2/tenants/a%20b/databases/docs"
    assert tenant.path(DEFAULT) == "/api/v2/tenants/a%20b"
    for path in (f"{DEFAULT}s/x", "/api/v2/tenants", "/api/v2/tenants/other", "/api/v2/version"):
        assert tenant.path(path) == path
        assert not tenant.is_unknown(path)


@pytest.mark.parametrize("said", ["default_tenant", "*", "", None, 7])
def test_a_token_without_a_tenant_of_its_own_changes_nothing(said: object) -> None:
    """Local servers say the default tenant, older ones any; then nothing is asked any more."""
    tenant = TokenTenant()
    assert tenant.is_unknown(DOCS)
    assert not tenant.settle({"tenant": said})
    assert (tenant.other, tenant.path(DOCS)) == ("", DOCS)
    assert not tenant.is_unknown(DOCS)


def test_a_server_that_answers_has_a_default_tenant() -> None:
    """One answer to a path of the default tenant settles it, an answer to another path nothing."""
    tenant = TokenTenant()
    tenant.note_answer("/api/v2/heartbeat")
    assert tenant.is_unknown(DOCS)
    tenant.note_answer(DOCS)
    assert not tenant.is_unknown(DOCS)
    assert tenant.path(DOCS) == DOCS
