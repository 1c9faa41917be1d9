"""With callbacks off altogether: the sweep alone brings every recording where it belongs."""

import pytest

from deploy.local.servers import S3Server
from tests.bench import sweeps


@pytest.mark.parametrize("trouble", sweeps.TROUBLES)
def test_everything_ends_as_it_should(trouble: str, s3_server: S3Server) -> None:
    """Completed recordings are archived and deleted, absent ones documented, whatever happens to hints and beats."""
    result = sweeps.run(60, trouble, flush_every=50, s3_server=s3_server)
    assert result.faults == ()
    assert (result.deleted, result.documented) == (50, 10)
    assert (result.flushes > 0) == (trouble == "flushes")
