import pytest

from hf_videolang.video.torchcodec_stream import torchcodec_problem


@pytest.fixture
def torchcodec() -> None:
    if torchcodec_problem() is not None:
        pytest.skip(f"torchcodec cannot decode here: {torchcodec_problem()}")


@pytest.fixture(params=["pyav", "torchcodec"])
def backend(request) -> str:
    if request.param == "torchcodec":
        request.getfixturevalue("torchcodec")
    return request.param
