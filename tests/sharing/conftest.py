import pytest
from loopback_hub import LoopbackHub


@pytest.fixture(scope="session")
def loopback_hub(tmp_path_factory):
    with LoopbackHub(home=tmp_path_factory.mktemp("hf_home")) as hub:
        yield hub
